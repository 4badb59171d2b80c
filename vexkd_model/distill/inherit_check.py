"""Check that parts of a student can be initialised with a teacher's weights (distillation.inherit)."""

from collections.abc import Callable, Sequence
from typing import cast

from vexkd_model.config import ModelConfig
from vexkd_model.config.bev import SecondConfig
from vexkd_model.config.heads import CenterHeadConfig
from vexkd_model.errors import UserError
from vexkd_model.model import build_lidar_encoder

HAVE_IT = "check_inherit asks for parts that both models have"


def check_inherit(parts: Sequence[str], student: ModelConfig, teacher: ModelConfig) -> None:
    """Raise UserError for the first part of `parts` whose weights do not fit the student's, even narrowed."""
    for part in parts:
        for side in (student, teacher):
            if getattr(side, part) is None:
                raise _refusal(part, f"{side.name} has none")
        if why := CHECKS[part](student, teacher):
            raise _refusal(part, why)


def same_tasks(student: CenterHeadConfig, teacher: CenterHeadConfig) -> bool:
    """Compare the tasks of two heads: True if they hold the same classes in the same order."""
    return [task.classes for task in student.tasks] == [task.classes for task in teacher.tasks]


def _refusal(part: str, why: str) -> UserError:
    return UserError(f"distillation.inherit: {part}: {why}; leave {part} out of the list, or give another teacher")


def _lidar(student: ModelConfig, teacher: ModelConfig) -> str | None:
    ours, theirs = student.lidar, teacher.lidar
    assert ours is not None and theirs is not None, HAVE_IT
    if ours.encoder != theirs.encoder:
        return f"lidar.encoder differs from that of {teacher.name}, and only equal encoders are copied"
    return None


def _camera(student: ModelConfig, teacher: ModelConfig) -> str | None:
    ours, theirs = student.camera, teacher.camera
    assert ours is not None and theirs is not None, HAVE_IT
    if (ours.backbone.name, ours.backbone.frozen_norms) != (theirs.backbone.name, theirs.backbone.frozen_norms):
        return f"camera.backbone differs from that of {teacher.name}, and only equal encoders are copied"
    for key in ("view", "past_frames"):
        if getattr(ours, key) != getattr(theirs, key):
            return f"camera.{key} differs from that of {teacher.name}, and only equal encoders are copied"
    if ours.images.cameras != theirs.images.cameras:
        return f"camera.images.cameras differs from that of {teacher.name}, and only equal encoders are copied"
    return None


def _bev(student: ModelConfig, teacher: ModelConfig) -> str | None:
    ours, theirs = student.bev, teacher.bev
    low = low_width(student), low_width(teacher)
    if not (isinstance(ours, SecondConfig) and isinstance(theirs, SecondConfig)):
        same = (ours, low[0]) == (theirs, low[1])
        return None if same else "encoders of other kinds than second are copied from equal ones alone"
    if ours.stage_layers != theirs.stage_layers:
        return f"bev.stage_layers is {list(ours.stage_layers)}, that of {teacher.name} {list(theirs.stage_layers)}"
    for channels in zip(ours.stage_channels, theirs.stage_channels, strict=True):
        if why := _wider("bev.stage_channels", *channels):
            return why
    return _wider("bev.lateral_channels", ours.lateral_channels, theirs.lateral_channels) or _wider(
        "the low-level map", *low
    )


def _detection(student: ModelConfig, teacher: ModelConfig) -> str | None:
    ours, theirs = student.detection, teacher.detection
    assert ours is not None and theirs is not None, HAVE_IT
    if ours.kind != theirs.kind:
        return f"detection.kind is {ours.kind}, that of {teacher.name} {theirs.kind}"
    if not (isinstance(ours, CenterHeadConfig) and isinstance(theirs, CenterHeadConfig)):
        same = (ours, high_width(student)) == (theirs, high_width(teacher))
        return None if same else "a transfusion head is copied from an equal one alone"
    if not same_tasks(ours, theirs):
        return f"detection.tasks differ from those of {teacher.name}"
    if ours.separate != theirs.separate:
        return f"detection.separate differs from that of {teacher.name}"
    return (
        _wider("detection.shared_channels", ours.shared_channels, theirs.shared_channels)
        or _wider("detection.task_channels", ours.task_channels, theirs.task_channels)
        or _high(student, teacher)
    )


def _segmentation(student: ModelConfig, teacher: ModelConfig) -> str | None:
    ours, theirs = student.segmentation, teacher.segmentation
    assert ours is not None and theirs is not None, HAVE_IT
    return _wider("segmentation.channels", ours.channels, theirs.channels) or _high(student, teacher)


CHECKS: dict[str, Callable[[ModelConfig, ModelConfig], str | None]] = {
    "lidar": _lidar,
    "camera": _camera,
    "bev": _bev,
    "detection": _detection,
    "segmentation": _segmentation,
}


def _high(student: ModelConfig, teacher: ModelConfig) -> str | None:
    """Reason why the student's high-level map cannot be a narrowed version of the teacher's; None if it can."""
    ours, theirs = student.bev, teacher.bev
    if high_width(student) == high_width(teacher):
        return None
    if not (
        isinstance(ours, SecondConfig)
        and isinstance(theirs, SecondConfig)
        and len(ours.stage_channels) == len(theirs.stage_channels)
    ):
        return f"bev differs from that of {teacher.name}, and the high-level maps in their channels"
    return _wider("bev.lateral_channels", ours.lateral_channels, theirs.lateral_channels)


def _wider(key: str, ours: int, theirs: int) -> str | None:
    return f"{key}: {ours} channels are more than the teacher's {theirs}" if ours > theirs else None


def low_width(config: ModelConfig) -> int:
    """Number of channels of the low-level map."""
    if config.fusion is not None:
        return config.fusion.channels
    if config.camera is not None:
        return config.camera.view.channels * (1 + config.camera.past_frames)
    assert config.lidar is not None, "a model has a sensor"
    return cast(int, build_lidar_encoder(config.lidar, config.grid.grid()).channels)


def high_width(config: ModelConfig) -> int:
    """Number of channels of the high-level map."""
    bev = config.bev
    return bev.lateral_channels * len(bev.stage_channels) if isinstance(bev, SecondConfig) else bev.channels

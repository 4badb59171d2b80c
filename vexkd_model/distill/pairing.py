"""Check that a teacher fits a student and the terms of its distillation."""

from vexkd_model.config import EXAMPLE, ModelConfig
from vexkd_model.config.bev import ModalityGeneralFusionConfig
from vexkd_model.config.camera import LiftSplatConfig
from vexkd_model.config.distill import BOX_MASKS, DistillationConfig
from vexkd_model.config.heads import CenterHeadConfig
from vexkd_model.distill.inherit_check import check_inherit, same_tasks
from vexkd_model.errors import UserError


def check_pairing(student: ModelConfig, teacher: ModelConfig) -> DistillationConfig:
    """Return the student's distillation settings; UserError names the key that does not fit this teacher."""
    settings = student.distillation
    if settings is None:
        raise UserError(f"{student.name}: distillation: is null; describe it, as {EXAMPLE} does")
    if student.grid != teacher.grid:
        raise UserError(
            f"grid: the student's is {_grid(student)}, the teacher's {_grid(teacher)}; "
            "distillation compares cell by cell, give both the same"
        )
    if student.frame != teacher.frame:
        raise UserError(
            f"frame: the student's is {_frame(student)}, the teacher's {_frame(teacher)}; distillation compares cell "
            "by cell, give both the same"
        )
    if settings.levels:
        _check_masks(settings, student, teacher)
    if student.training.paste is not None and teacher.camera is not None:
        raise UserError(
            f"training.paste: puts objects into points only, and the teacher {teacher.name} sees images, "
            "too; set training.paste=null"
        )
    check_inherit(settings.inherit, student, teacher)
    _check_response(settings, student, teacher)
    _check_boxes(settings, student, teacher)
    if settings.depth:
        _check_depth(student, teacher)
    return settings


def check_heads_are_taught(settings: DistillationConfig, student: ModelConfig) -> None:
    """Raise UserError where no frame is labelled and no key of the distillation teaches a head."""
    response = settings.response
    detects = settings.teacher_labels or (response and response.heatmap) or "detection" in settings.inherit
    segments = (response and response.map) or "segmentation" in settings.inherit
    for head, taught, cure in (
        (student.detection, detects, "detection: no frame is labelled; set distillation.teacher_labels={}"),
        (student.segmentation, segments, "segmentation: no frame is labelled; set distillation.response={map: 1.0}"),
    ):
        if head is not None and not taught:
            name = cure.split(":")[0]
            raise UserError(f"{student.name}: {cure}, distillation.inherit with {name}, or {name}=null")


def _check_masks(settings: DistillationConfig, student: ModelConfig, teacher: ModelConfig) -> None:
    if settings.masks == "fusion_queries" and not isinstance(teacher.fusion, ModalityGeneralFusionConfig):
        raise UserError(
            f"distillation.masks: fusion_queries needs a teacher with fusion.kind modality_general, and "
            f"{teacher.name} has no queries; choose random_queries, or another teacher"
        )
    if settings.masks in BOX_MASKS and student.detection is None:
        raise UserError(
            f"distillation.masks: {settings.masks} looks at boxes, and {student.name} detects none; "
            "choose fusion_queries, random_queries, ones or activation"
        )


def _check_response(settings: DistillationConfig, student: ModelConfig, teacher: ModelConfig) -> None:
    response = settings.response
    if response and response.heatmap:
        ours, theirs = student.detection, teacher.detection
        if not (isinstance(ours, CenterHeadConfig) and isinstance(theirs, CenterHeadConfig)):
            which = student if not isinstance(ours, CenterHeadConfig) else teacher
            raise UserError(
                f"distillation.response: heatmap compares two CenterHeads, and {which.name} has none; give "
                "a teacher and a student with detection.kind center, or set response.heatmap to 0"
            )
        if not same_tasks(ours, theirs):
            raise UserError(
                "distillation.response: heatmap: detection.tasks differ from those of "
                f"{teacher.name}; make them alike, or set response.heatmap to 0"
            )
    if response and response.map:
        for side in (student, teacher):
            if side.segmentation is None:
                raise UserError(
                    f"distillation.response: map compares segmentations, and {side.name} has none; set "
                    "response.map to 0"
                )


def _check_boxes(settings: DistillationConfig, student: ModelConfig, teacher: ModelConfig) -> None:
    if settings.teacher_labels:
        for side in (student, teacher):
            if side.detection is None:
                raise UserError(f"distillation.teacher_labels: are boxes, and {side.name} detects none; write null")
    if settings.relation and student.detection is None:
        raise UserError(f"distillation.relation: looks at boxes, and {student.name} detects none; set it to 0")


def _check_depth(student: ModelConfig, teacher: ModelConfig) -> None:
    ours, theirs = _depth_pixels(student), _depth_pixels(teacher)
    for key, value in ours.items():
        if value != theirs[key]:
            raise UserError(
                f"distillation.depth: compares pixel by pixel, and {key} differs from that of "
                f"{teacher.name}; make them alike, or set it to 0"
            )


def _depth_pixels(config: ModelConfig) -> dict[str, object]:
    """Settings by key that decide which pixels and depth bins a model has."""
    camera = config.camera
    if camera is None or not isinstance(camera.view, LiftSplatConfig):
        raise UserError(
            f"distillation.depth: compares depths of lift_splat views, and {config.name} has none; set it to 0"
        )
    return {
        "camera.view.bins": camera.view.bins,
        "camera.view.stride": camera.view.stride,
        "camera.images": camera.images,
    }


def _frame(config: ModelConfig) -> str:
    frame = config.frame
    return f"{{translation: {[*frame.translation]}, rotation: {[*frame.rotation]}}}" if frame else "base_link"


def _grid(config: ModelConfig) -> str:
    return f"±{config.grid.extent:g} m at {config.grid.cell:g} m"

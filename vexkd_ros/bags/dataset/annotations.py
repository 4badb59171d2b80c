"""Annotations of a dataset: labelled boxes, checked, as boxes of instances at keyframes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vexkd_model.data.schema import CATEGORY_OF_CLASS
from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import apply, inverse
from vexkd_ros.bags.dataset.labels.labelled import LabelledBox, LabelledFrame
from vexkd_ros.bags.dataset.plan import nearest
from vexkd_ros.bags.dataset.recording import Recording
from vexkd_ros.bags.dataset.wiring import Wiring
from vexkd_ros.inputs.errors import TransformUnavailable

UNKNOWN_POINTS = -1  # of a dataset without LiDAR files


@dataclass(frozen=True)
class AnnotatedBox:
    """Box of an object. instance: its id. odom_from_box: float64 (4, 4). size: length, width, height [m].

    attribute: one of nuScenes', or ''.
    """

    instance: str
    category: str
    odom_from_box: np.ndarray
    size: tuple[float, float, float]
    attribute: str


def check_labels(labels: Sequence[LabelledFrame], wiring: Wiring) -> None:
    """Raise UserError for a class that nobody maps, a box without volume, or two boxes of one object at a time."""
    _check_classes(labels, wiring)
    for frame in labels:
        seen = set()
        for box in frame.boxes:
            if wiring.category(box.category) is None:
                continue
            if not (
                np.isfinite(box.frame_from_box).all() and all(math.isfinite(edge) and edge > 0 for edge in box.size)
            ):
                raise UserError(f"{box.where}: a box of {box.category} is not finite or has no volume; correct it")
            if box.instance in seen:
                raise UserError(f"{box.where}: two boxes have the id {box.instance}; give each object its own")
            seen |= {box.instance} - {""}


def boxes_at_keyframes(
    recording: Recording, labels: Sequence[LabelledFrame], keyframes: Sequence[int]
) -> dict[int, list[AnnotatedBox]]:
    """Place the boxes of the frame nearest to each keyframe [ns]. UserError for a frame of TF that is not known."""
    if not labels:
        return {}
    stamps = [frame.stamp_ns for frame in labels]
    return {keyframe: _placed(recording, labels[nearest(stamps, keyframe)], keyframe) for keyframe in keyframes}


def count_points(points: np.ndarray, odom_from_points: np.ndarray, box: AnnotatedBox) -> int:
    """Count the points (N, ≥ 3) of a frame, float64 (4, 4) odom_from_points, in a box, its surface included."""
    box_from_points = inverse(box.odom_from_box) @ odom_from_points
    inside = np.abs(apply(box_from_points, points[:, :3].astype(np.float64))) <= np.array(box.size) / 2
    return int(inside.all(axis=1).sum())


def _placed(recording: Recording, frame: LabelledFrame, keyframe_ns: int) -> list[AnnotatedBox]:
    """Place the boxes of a frame; an object without an id is one of its own in each keyframe."""
    boxes = []
    for i, box in enumerate(frame.boxes):
        category = recording.wiring.category(box.category)
        if category is None:
            continue
        instance = box.instance or f"{keyframe_ns}-{i}"
        odom_from_box = _odom_from(recording, box, frame.stamp_ns) @ box.frame_from_box
        boxes.append(AnnotatedBox(instance, category, odom_from_box, box.size, box.attribute))
    return boxes


def _odom_from(recording: Recording, box: LabelledBox, stamp_ns: int) -> np.ndarray:
    try:
        return recording.seen.transforms.lookup(recording.wiring.odom_frame, box.frame, stamp_ns)
    except TransformUnavailable as error:
        raise UserError(f"{box.where}: {box.frame} is the frame of its boxes, but {error}") from None


def _check_classes(labels: Sequence[LabelledFrame], wiring: Wiring) -> None:
    unknown: dict[str, str] = {}
    for box in (box for frame in labels for box in frame.boxes):
        try:
            wiring.category(box.category)
        except KeyError:
            unknown.setdefault(box.category, box.where)
    if unknown:
        (name, where), *others = unknown.items()
        more = f" (and {', '.join(other for other, _ in others)})" if others else ""
        alike = {name: name.lower() if name.lower() in CATEGORY_OF_CLASS else "car" for name in unknown}
        example = ", ".join(f"{name or 'NAME'}: {like}" for name, like in alike.items())
        raise UserError(
            f"{where}: class {name!r}{more} is none of nuScenes'; say which one it is in the file of --sensors, "
            f"classes: {{{example}}}, or null to leave it out"
        )

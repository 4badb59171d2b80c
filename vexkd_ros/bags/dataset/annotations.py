"""Annotations of a bag: Detection3DArray → boxes of instances at keyframes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import apply, inverse
from vexkd_model.types import ATTRIBUTE_NAMES
from vexkd_ros.bags.dataset.plan import nearest
from vexkd_ros.bags.dataset.recording import Recording, pose_matrix
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


def boxes_at_keyframes(recording: Recording, keyframes: Sequence[int]) -> dict[int, list[AnnotatedBox]]:
    """Place the annotations at each keyframe's stamp [ns]. UserError for a class or a frame that is not known."""
    boxes: dict[int, list[AnnotatedBox]] = {}
    if recording.annotations:
        stamps = [stamp for stamp, _ in recording.annotations]
        for keyframe in keyframes:
            _, message = recording.annotations[nearest(stamps, keyframe)]
            boxes[keyframe] = _boxes(recording, message, keyframe)
    return boxes


def count_points(points: np.ndarray, odom_from_points: np.ndarray, box: AnnotatedBox) -> int:
    """Count the points (N, ≥ 3) of a frame, float64 (4, 4) odom_from_points, in a box, its surface included."""
    box_from_points = inverse(box.odom_from_box) @ odom_from_points
    inside = np.abs(apply(box_from_points, points[:, :3].astype(np.float64))) <= np.array(box.size) / 2
    return int(inside.all(axis=1).sum())


def _boxes(recording: Recording, message: Any, keyframe_ns: int) -> list[AnnotatedBox]:
    """Read the boxes of a message; an object without an id is one of its own in each keyframe."""
    topic, odom = recording.wiring.annotations, recording.wiring.odom_frame
    stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    boxes, seen = [], set()
    for i, detection in enumerate(message.detections):
        frame = detection.header.frame_id or message.header.frame_id
        try:
            odom_from_frame = recording.seen.transforms.lookup(odom, frame, stamp)
        except TransformUnavailable as error:
            raise UserError(f"{recording.bag}: {topic}: {error}") from None
        names = [one.hypothesis.class_id for one in sorted(detection.results, key=lambda one: -one.hypothesis.score)]
        category = _category(recording, names[0] if names else "")
        size = (detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z)
        if category is None:
            continue
        box = pose_matrix(detection.bbox.center)
        if not (np.isfinite(box).all() and all(math.isfinite(edge) and edge > 0 for edge in size)):
            raise UserError(
                f"{recording.bag}: {topic}: a box of {names[0]} at {stamp * 1e-9:.6f} s is not finite or has no "
                "volume; correct it"
            )
        instance = detection.id or f"{keyframe_ns}-{i}"
        if instance in seen:
            raise UserError(
                f"{recording.bag}: {topic}: two boxes at {stamp * 1e-9:.6f} s have the id {instance}; give each object "
                "its own"
            )
        seen.add(instance)
        attribute = next((name for name in names[1:] if name in ATTRIBUTE_NAMES), "")
        boxes.append(AnnotatedBox(instance, category, odom_from_frame @ box, size, attribute))
    return boxes


def _category(recording: Recording, name: str) -> str | None:
    try:
        return recording.wiring.category(name)
    except KeyError:
        raise UserError(
            f"{recording.bag}: {recording.wiring.annotations}: class {name!r} is none of nuScenes'; say "
            f"which one it is in the file of --sensors, classes: {{{name or 'NAME'}: car}}, or null to leave it out"
        ) from None

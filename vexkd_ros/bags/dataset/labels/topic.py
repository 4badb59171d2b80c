"""Labels on a bag's topic: vision_msgs/Detection3DArray."""

from typing import Any

from vexkd_model.types import ATTRIBUTE_NAMES
from vexkd_ros.bags.dataset.labels.labelled import LabelledBox, LabelledFrame
from vexkd_ros.bags.dataset.recording import Recording, pose_matrix


def topic_frames(recording: Recording, topic: str) -> list[LabelledFrame]:
    """Convert the annotations of a bag, in the order of time."""
    frames = []
    for stamp, message in recording.annotations:
        where = f"{recording.bag}: {topic} at {stamp * 1e-9:.6f} s"
        frames.append(LabelledFrame(stamp, [_box(where, message, detection) for detection in message.detections]))
    return frames


def _box(where: str, message: Any, detection: Any) -> LabelledBox:
    """Convert a Detection3D: its likeliest hypothesis is the class, a second one may be an attribute of nuScenes."""
    names = [one.hypothesis.class_id for one in sorted(detection.results, key=lambda one: -one.hypothesis.score)]
    size = detection.bbox.size
    return LabelledBox(
        where,
        names[0] if names else "",
        detection.id,
        detection.header.frame_id or message.header.frame_id,
        pose_matrix(detection.bbox.center),
        (size.x, size.y, size.z),
        next((name for name in names[1:] if name in ATTRIBUTE_NAMES), ""),
    )

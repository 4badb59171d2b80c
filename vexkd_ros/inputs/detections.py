"""Reader of vision_msgs/Detection3DArray, in ROS's messages or rosbags'."""

import math
from typing import Any

import numpy as np

from vexkd_model.types import BOX_FIELDS, DETECTION_CLASSES, Boxes


def read_detections(message: Any, velocities: np.ndarray | None = None) -> tuple[Boxes, np.ndarray, list[str]]:
    """Return boxes, their scores float32 (M,), and the names of classes that were left out as they are not ours.

    A detection counts for its best hypothesis. velocities: vx and vy (N, 2) [m/s] of the message's N detections, in
    their order; unknown without them, for the message has no field for it.
    """
    if velocities is None:
        velocities = np.full((len(message.detections), 2), math.nan, np.float32)
    rows, labels, scores, unknown = [], [], [], []
    for detection, velocity in zip(message.detections, velocities.tolist(), strict=True):
        if not detection.results:
            continue
        best = max((result.hypothesis for result in detection.results), key=lambda hypothesis: hypothesis.score)
        if best.class_id not in DETECTION_CLASSES:
            unknown.append(best.class_id)
            continue
        centre, orientation, size = (
            detection.bbox.center.position,
            detection.bbox.center.orientation,
            detection.bbox.size,
        )
        yaw = 2 * math.atan2(orientation.z, orientation.w)
        rows.append([centre.x, centre.y, centre.z, size.x, size.y, size.z, yaw, *velocity])
        labels.append(DETECTION_CLASSES.index(best.class_id))
        scores.append(best.score)
    boxes = Boxes(np.array(rows, np.float32).reshape(-1, len(BOX_FIELDS)), np.array(labels, np.int64))
    return boxes, np.array(scores, np.float32), sorted(set(unknown))

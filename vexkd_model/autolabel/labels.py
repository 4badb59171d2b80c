"""Labels of a scene: a teacher's detections, tracked and smoothed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vexkd_model.autolabel.detections import SceneDetections
from vexkd_model.geometry.boxes import transform_boxes
from vexkd_model.geometry.transforms import inverse
from vexkd_model.tracking.smoothing import Moment, SmoothTrack, track_scene
from vexkd_model.types import DETECTION_CLASSES, Boxes


def label_scene(detections: SceneDetections) -> list[SmoothTrack]:
    """Track and smooth the detections of a scene, in the frame of the ego poses."""
    moments = [
        Moment(stamp, transform_boxes(pose, boxes.values), boxes.labels, scores)
        for stamp, pose, boxes, scores in zip(
            detections.stamps_ns, detections.global_from_base, detections.found, detections.scores, strict=True
        )
    ]
    return track_scene(moments)


def reaching(tracks: Sequence[SmoothTrack], thresholds: Mapping[str, float]) -> list[SmoothTrack]:
    """Cut the ends of tracks at which no score reaches the threshold of the class; leave out tracks without any."""
    kept = []
    for track in tracks:
        strong = np.flatnonzero(track.scores >= thresholds[DETECTION_CLASSES[track.label]])
        if len(strong):
            part = slice(strong[0], strong[-1] + 1)
            kept.append(
                replace(track, first=track.first + part.start, boxes=track.boxes[part], scores=track.scores[part])
            )
    return kept


def boxes_at(tracks: Sequence[SmoothTrack], k: int, global_from_base: np.ndarray) -> tuple[Boxes, np.ndarray]:
    """Boxes at keyframe k in its base_link, and their scores (M,)."""
    there = [track for track in tracks if 0 <= k - track.first < len(track.boxes)]
    values = np.reshape([track.boxes[k - track.first] for track in there], (-1, 9))
    return (
        Boxes(
            transform_boxes(inverse(global_from_base), values).astype(np.float32),
            np.array([track.label for track in there], np.int64),
        ),
        np.array([track.scores[k - track.first] for track in there], np.float32),
    )

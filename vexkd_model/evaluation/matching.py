"""Matching of detections and annotated boxes in one frame, by the rule of the nuScenes detection metrics."""

from dataclasses import dataclass

import numpy as np

from vexkd_model.types import DETECTION_CLASSES, Boxes

# How far from the vehicle the metrics look at each class [m]: class_range of the devkit's detection_cvpr_2019, whose
# import takes seconds.
CLASS_RANGE_M = {
    "car": 50,
    "truck": 50,
    "construction_vehicle": 50,
    "bus": 50,
    "trailer": 50,
    "barrier": 30,
    "motorcycle": 40,
    "bicycle": 40,
    "pedestrian": 40,
    "traffic_cone": 30,
}
MATCH_DISTANCE_M = 2.0  # of the metrics' four thresholds the one that the true-positive errors use


def within_range(boxes: Boxes) -> np.ndarray:
    """Mask, bool (M,), of boxes whose centre lies within the metrics' range of their class."""
    limits = np.array([CLASS_RANGE_M[name] for name in DETECTION_CLASSES])
    return np.linalg.norm(boxes.values[:, :2], axis=1) < limits[boxes.labels]


@dataclass(frozen=True)
class Matches:
    """Matches of one frame.

    hits: int (K, 2), detection and annotation, best score first. distances: float (K,), between their centres [m].
    false_alarms: int (F,), detections without an annotation. misses: int (M,), annotations without a detection.
    """

    hits: np.ndarray
    distances: np.ndarray
    false_alarms: np.ndarray
    misses: np.ndarray


def match_by_centre(found: Boxes, scores: np.ndarray, truth: Boxes, distance: float = MATCH_DISTANCE_M) -> Matches:
    """Match detections, best score first, each with the nearest annotation of its class that is still free.

    It hits where their centres, seen from above, are less than `distance` [m] apart. scores: (M,) of `found`.
    Source: nuscenes-devkit, nuscenes/eval/detection/algo.py, `accumulate`.
    """
    hits, distances, false_alarms = [], [], []
    free = np.ones(len(truth), bool)
    for i in np.argsort(-scores, kind="stable"):
        candidates = np.flatnonzero(free & (truth.labels == found.labels[i]))
        away = np.linalg.norm(truth.values[candidates, :2] - found.values[i, :2], axis=1)
        if len(candidates) and away.min() < distance:
            nearest = candidates[away.argmin()]
            free[nearest] = False
            hits.append((i, nearest))
            distances.append(away.min())
        else:
            false_alarms.append(i)
    return Matches(
        np.array(hits, int).reshape(-1, 2),
        np.array(distances, float),
        np.array(false_alarms, int),
        np.flatnonzero(free),
    )

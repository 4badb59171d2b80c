"""Quality of boxes where true ones are known: precision, recall and errors a class, and thresholds of best F1.

A box hits by the rule of the nuScenes metrics, within 2 m and the class's range. Boxes without a LiDAR point count on
neither side, neither true ones nor found ones: training leaves both out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vexkd_model.data.index import FrameRecord
from vexkd_model.evaluation.matching import match_by_centre, within_range
from vexkd_model.geometry.boxes import wrap_angle
from vexkd_model.types import DETECTION_CLASSES, Boxes

ERRORS = {"position": "m", "heading": "rad", "velocity": "m/s"}
LEAST_TRUE = 100  # boxes of a class; with 20, of two or three objects, thresholds were worse than one for all classes
HALF_TURN = ("barrier",)  # looks the same from both sides
WITHOUT = {"heading": ("traffic_cone",), "velocity": ("traffic_cone", "barrier")}  # as the metrics


class Outcomes(NamedTuple):
    """Outcomes of N boxes, and how many true ones there were.

    labels: int (N,). scores: (N,). hit: bool (N,). errors: (N, 3) in the order of ERRORS, NaN without one. true: int
    (10,), boxes a class that can be found.
    """

    labels: np.ndarray
    scores: np.ndarray
    hit: np.ndarray
    errors: np.ndarray
    true: np.ndarray


class ClassQuality(NamedTuple):
    """Figures of a class; None where nothing can be said. errors: means over the hits."""

    true: int
    found: int
    precision: float | None
    recall: float | None
    errors: dict[str, float | None]


def outcomes_of_frame(found: Boxes, scores: np.ndarray, seen: np.ndarray, record: FrameRecord) -> Outcomes:
    """Compare the boxes of a keyframe, in base_link, with its annotation; seen: bool (M,), which hold a LiDAR point."""
    truth, found, scores = record.boxes, Boxes(found.values[seen], found.labels[seen]), scores[seen]
    counts = within_range(truth) & (record.lidar_points != 0)
    matches = match_by_centre(found, scores, truth)
    hits = matches.hits[counts[matches.hits[:, 1]]]
    alarms = matches.false_alarms[within_range(found)[matches.false_alarms]]
    chosen = np.concatenate([hits[:, 0], alarms])
    errors = np.full((len(chosen), len(ERRORS)), np.nan)
    errors[: len(hits)] = _errors(found, truth, hits)
    true = np.bincount(truth.labels[counts], minlength=len(DETECTION_CLASSES))
    return Outcomes(found.labels[chosen], scores[chosen], np.arange(len(chosen)) < len(hits), errors, true)


def together(outcomes: Sequence[Outcomes]) -> Outcomes:
    """Join the outcomes of several frames, at least one."""
    *columns, true = zip(*outcomes, strict=True)
    labels, scores, hit, errors = (np.concatenate(column) for column in columns)
    return Outcomes(labels, scores, hit, errors, np.sum(true, axis=0))


def best_thresholds(outcomes: Outcomes, default: float) -> tuple[dict[str, float], dict[str, int]]:
    """Scores by class from which on boxes have the best F1, and the true boxes behind each.

    `default`, and 0, for a class with fewer than LEAST_TRUE.
    """
    thresholds: dict[str, float] = dict.fromkeys(DETECTION_CLASSES, default)
    behind: dict[str, int] = dict.fromkeys(DETECTION_CLASSES, 0)
    for label, name in enumerate(DETECTION_CLASSES):
        of_class = outcomes.labels == label
        if outcomes.true[label] >= LEAST_TRUE and of_class.any():
            thresholds[name] = _best_threshold(
                outcomes.scores[of_class], outcomes.hit[of_class], int(outcomes.true[label])
            )
            behind[name] = int(outcomes.true[label])
    return thresholds, behind


def _best_threshold(scores: np.ndarray, hit: np.ndarray, true: int) -> float:
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(hit[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + true)
    f1[:-1][scores[1:] == scores[:-1]] = 0.0  # a threshold does not part equal scores
    return float(scores[f1.argmax()])


def quality(outcomes: Outcomes, thresholds: Mapping[str, float]) -> dict[str, ClassQuality]:
    """Figures by class of the boxes that reach their class's threshold, for classes with true or found ones."""
    kept = outcomes.scores >= np.array([thresholds[name] for name in DETECTION_CLASSES])[outcomes.labels]
    figures = {}
    for label, name in enumerate(DETECTION_CLASSES):
        of_class = kept & (outcomes.labels == label)
        found, hits, true = int(of_class.sum()), int((of_class & outcomes.hit).sum()), int(outcomes.true[label])
        if found or true:
            errors = outcomes.errors[of_class & outcomes.hit]
            figures[name] = ClassQuality(
                true,
                found,
                hits / found if found else None,
                hits / true if true else None,
                {
                    kind: float(np.nanmean(column)) if np.isfinite(column).any() else None
                    for kind, column in zip(ERRORS, errors.T, strict=True)
                },
            )
    return figures


def _errors(found: Boxes, truth: Boxes, hits: np.ndarray) -> np.ndarray:
    """Errors (K, 3), in the order of ERRORS, of pairs (K, 2) of a box and a true one."""
    ours, true = found.values[hits[:, 0]].astype(np.float64), truth.values[hits[:, 1]].astype(np.float64)
    names = [DETECTION_CLASSES[label] for label in truth.labels[hits[:, 1]]]
    turn = wrap_angle(ours[:, 6] - true[:, 6])
    turn = np.where(np.isin(names, HALF_TURN), wrap_angle(2 * turn) / 2, turn)
    off, meaningless = ours - true, [np.isin(names, WITHOUT.get(kind, ())) for kind in ERRORS]
    errors = np.stack([np.linalg.norm(off[:, :2], axis=1), abs(turn), np.linalg.norm(off[:, 7:], axis=1)], axis=1)
    errors[np.stack(meaningless, axis=1)] = np.nan
    return errors

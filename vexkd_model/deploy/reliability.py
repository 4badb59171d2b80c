"""Reliability of a student's detections as its card states it: scores, thresholds and deviations by class.

The card holds Reliability as JSON; ReliabilityTables applies it to boxes. `vexkd calibrate` measures it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vexkd_model.config.section import Section
from vexkd_model.types import DETECTION_CLASSES, DEVIATION_FIELDS, Boxes

IDENTITY = (1.0, 1.0, 0.0)
LEAST_SCORE = 1e-7  # a float32 sigmoid reaches 0 and 1, whose logarithms are infinite


class Deviation(Section):
    """Standard deviations of one class's boxes up to the distance `to` [m] from base_link, null for all beyond.

    Each is the 68.3 % quantile of the absolute errors of `matches` hits: what a normal distribution's standard
    deviation covers, and unmoved by the few that are far off, as a heading that is turned round. Position along and
    across the line of sight, height [m], heading [rad], velocity along and across the heading [m/s]; null: no truth.
    """

    to: float | None
    matches: int
    radial: float
    tangential: float
    z: float
    yaw: float
    v_along: float | None
    v_across: float | None


class HeldOut(Section):
    """Figures of one class on each half of the scenes, with what was fitted to the other half.

    ece_before, ece_after: expected calibration error without and with the map. precision, recall: at the threshold.
    coverage: share of errors within one standard deviation, by their name; null without any.
    """

    ece_before: float
    ece_after: float
    precision: float
    recall: float
    coverage: dict[str, float | None]


class ClassReliability(Section):
    """Reliability of one class, within the range of the official metrics and by their matches at 2 m.

    detections, annotations: behind the figures. score_map: a, b, c of beta calibration. score_threshold: of best F1, on
    calibrated scores. deviations: of boxes at the threshold, nearest first; none where those are too few.
    """

    detections: int
    annotations: int
    score_map: tuple[float, float, float]
    score_threshold: float
    deviations: tuple[Deviation, ...]
    held_out: HeldOut


class Reliability(Section):
    """Reliability of the classes that the data hold enough of.

    data, command, runtime: what it was measured on, and with what. boxes_per_frame, annotations_per_frame: within the
    range of the metrics; boxes at the thresholds, held out.
    """

    data: dict[str, Any]
    command: str
    runtime: str
    boxes_per_frame: float
    annotations_per_frame: float
    classes: dict[str, ClassReliability]

    def thresholds(self) -> np.ndarray:
        """Return the default thresholds, float64 (10,) in the order of DETECTION_CLASSES; 0 where unmeasured."""
        return np.array(
            [self.classes[name].score_threshold if name in self.classes else 0.0 for name in DETECTION_CLASSES]
        )


@dataclass(frozen=True)
class DeviationTable:
    """Deviations of one class as arrays. edges: (R − 1,) ends of its ranges [m]. rows: (R, 6), NaN where unknown."""

    edges: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, deviations: Sequence[Deviation]) -> "DeviationTable":
        rows = [[getattr(one, name) for name in DEVIATION_FIELDS] for one in deviations]
        unknown = np.full((1, len(DEVIATION_FIELDS)), math.nan)
        return cls(np.array([one.to for one in deviations[:-1]], float), np.array(rows, float) if rows else unknown)

    def at(self, distances: np.ndarray) -> np.ndarray:
        """Look up deviations (M, 6) at distances (M,) from base_link [m]."""
        return self.rows[np.searchsorted(self.edges, distances)]


@dataclass(frozen=True)
class ReliabilityTables:
    """Reliability as arrays over DETECTION_CLASSES: score_maps (10, 3), and a table of deviations each."""

    score_maps: np.ndarray
    deviations: tuple[DeviationTable, ...]

    @classmethod
    def of(cls, reliability: Reliability) -> "ReliabilityTables":
        measured = [reliability.classes.get(name) for name in DETECTION_CLASSES]
        return cls(
            np.array([one.score_map if one else IDENTITY for one in measured]),
            tuple(DeviationTable.of(one.deviations if one else ()) for one in measured),
        )

    def calibrated(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Map scores (M,) of boxes with these labels (M,) to the share of such boxes that is right, float32."""
        return map_scores(scores, self.score_maps[labels])

    def deviations_of(self, boxes: Boxes) -> np.ndarray:
        """Look up the deviations of boxes, float32 (M, 6), by class and by distance from base_link."""
        found = np.empty((len(boxes), len(DEVIATION_FIELDS)), np.float32)
        distances = np.hypot(boxes.values[:, 0], boxes.values[:, 1])
        for label in np.unique(boxes.labels):
            of_class = boxes.labels == label
            found[of_class] = self.deviations[label].at(distances[of_class])
        return found


def map_scores(scores: np.ndarray, score_map: np.ndarray | tuple[float, float, float]) -> np.ndarray:
    """Apply beta calibration to scores (M,), float32: logit = a ln s − b ln(1 − s) + c; increasing, as a, b > 0.

    score_map: a, b, c, of each score (M, 3) or of all (3,).
    Source: Kull, Silva Filho and Flach, AISTATS 2017; a = b is Platt scaling of the logit, and 1/a its temperature.
    """
    a, b, c = np.moveaxis(np.asarray(score_map, np.float64), -1, 0)
    scores = np.clip(scores.astype(np.float64), LEAST_SCORE, 1 - LEAST_SCORE)
    return (1 / (1 + np.exp(-(a * np.log(scores) - b * np.log1p(-scores) + c)))).astype(np.float32)

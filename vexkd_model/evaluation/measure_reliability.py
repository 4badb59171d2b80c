"""Measurement of a student's reliability on a split: predictions without calibration → Reliability for its card."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.reliability import ClassReliability, Deviation, DeviationTable, HeldOut, Reliability, map_scores
from vexkd_model.errors import UserError
from vexkd_model.evaluation.box_errors import box_errors, deviations_by_range
from vexkd_model.evaluation.calibration import best_f1_threshold, expected_calibration_error, fit_score_map
from vexkd_model.evaluation.matching import match_by_centre, within_range
from vexkd_model.types import DETECTION_CLASSES, DEVIATION_FIELDS, Boxes, Prediction

LEAST_HITS = 20  # of a class in each half of the scenes; of fewer nothing is fitted


class Fit(NamedTuple):
    """Fit to the detections of one class: a, b, c of its score map, threshold, deviations by range."""

    score_map: tuple[float, float, float]
    threshold: float
    deviations: tuple[Deviation, ...]


@dataclass(frozen=True)
class DetectionTable:
    """Detections of a split, M of them, and what they matched.

    half: int (M,), 0 or 1, that of their scene. boxes: float (M, 9). hits: bool (M,). errors: float (M, 6), NaN without
    a hit. annotations: int (2, 10) by half and class. frames: of both halves.
    """

    half: np.ndarray
    boxes: Boxes
    scores: np.ndarray
    hits: np.ndarray
    errors: np.ndarray
    annotations: np.ndarray
    frames: int

    def of(self, chosen: np.ndarray) -> "DetectionTable":
        """Select detections; annotations stay."""
        boxes = Boxes(self.boxes.values[chosen], self.boxes.labels[chosen])
        parts = self.half[chosen], boxes, self.scores[chosen], self.hits[chosen], self.errors[chosen]
        return DetectionTable(*parts, self.annotations, self.frames)

    @property
    def distances(self) -> np.ndarray:
        """Distances of the boxes from base_link, (M,) [m]."""
        return np.hypot(self.boxes.values[:, 0], self.boxes.values[:, 1])


def tabulate(predictions: Iterable[Prediction], index: FrameIndex) -> DetectionTable:
    """Match the predictions of a split's frames within the range of the metrics. UserError for a single scene.

    Annotations are those that hold a LiDAR point. Every second scene, by name, is of the second half.
    """
    scenes = sorted(set(index.column("scene")))
    if len(scenes) < 2:
        raise UserError(f"{index.split}: holds one scene; give several, half of them test what the others say")
    row_of = {token: i for i, token in enumerate(index.column("token"))}
    annotations = np.zeros((2, len(DETECTION_CLASSES)), int)
    columns: list[tuple[np.ndarray, ...]] = []
    for prediction in predictions:
        record = index[row_of[prediction.token]]
        half = scenes.index(record.scene) % 2
        truth = _inside(record.seen_boxes)
        near = within_range(prediction.boxes)
        values, labels, scores = prediction.boxes.values[near], prediction.boxes.labels[near], prediction.scores[near]
        matches = match_by_centre(Boxes(values, labels), scores, truth)
        found, true = matches.hits.T
        errors = np.full((len(labels), len(DEVIATION_FIELDS)), np.nan)
        errors[found] = box_errors(values[found], truth.values[true], labels[found])
        hits = np.zeros(len(labels), bool)
        hits[found] = True
        np.add.at(annotations[half], truth.labels, 1)
        columns.append((np.full(len(labels), half), values, labels, scores, hits, errors))
    half, values, labels, scores, hits, errors = map(np.concatenate, zip(*columns, strict=True))
    return DetectionTable(half, Boxes(values, labels), scores, hits, errors, annotations, len(columns))


def _inside(boxes: Boxes) -> Boxes:
    near = within_range(boxes)
    return Boxes(boxes.values[near], boxes.labels[near])


def measure_reliability(table: DetectionTable, data: dict[str, Any], command: str, runtime: str) -> Reliability:
    """Fit to all detections of each class, and test on each half of the scenes what is fitted to the other half.

    UserError where no class has enough hits.
    """
    classes, shown = {}, 0
    for label, name in enumerate(DETECTION_CLASSES):
        part = table.of(table.boxes.labels == label)
        if min(np.count_nonzero(part.hits & (part.half == half)) for half in (0, 1)) < LEAST_HITS:
            continue
        annotations = part.annotations[:, label]
        held_out, kept = _held_out(part, annotations)
        shown += kept
        score_map, threshold, deviations = _fit(part, int(annotations.sum()))
        classes[name] = ClassReliability(
            detections=len(part.scores),
            annotations=int(annotations.sum()),
            score_map=score_map,
            score_threshold=threshold,
            deviations=deviations,
            held_out=held_out,
        )
    if not classes:
        raise UserError(f"{data['split']}: no class has {LEAST_HITS} hits in each half of the scenes; give more frames")
    return Reliability(
        data=data,
        command=command,
        runtime=runtime,
        boxes_per_frame=round(shown / table.frames, 2),
        annotations_per_frame=round(float(table.annotations.sum()) / table.frames, 2),
        classes=classes,
    )


def _fit(part: DetectionTable, annotations: int) -> Fit:
    score_map = fit_score_map(part.scores, part.hits)
    calibrated = map_scores(part.scores, score_map)
    threshold = _short(best_f1_threshold(calibrated, part.hits, annotations))
    chosen = part.hits & (calibrated >= threshold)
    return Fit(score_map, threshold, deviations_by_range(part.errors[chosen], part.distances[chosen]))


def _held_out(part: DetectionTable, annotations: np.ndarray) -> tuple[HeldOut, int]:
    """Test a class on each half with what the other gives; also count the boxes at the threshold."""
    calibrated, kept = np.empty_like(part.scores), np.zeros(len(part.hits), bool)
    deviations = np.full_like(part.errors, np.nan)
    for half in (0, 1):
        here = part.half == half
        fit = _fit(part.of(~here), int(annotations[1 - half]))
        calibrated[here] = map_scores(part.scores[here], fit.score_map)
        kept[here] = calibrated[here] >= fit.threshold
        deviations[here] = DeviationTable.of(fit.deviations).at(part.distances[here])
    right = kept & part.hits
    return HeldOut(
        ece_before=_short(expected_calibration_error(part.scores, part.hits)),
        ece_after=_short(expected_calibration_error(calibrated, part.hits)),
        precision=_short(right.sum() / max(kept.sum(), 1)),
        recall=_short(right.sum() / annotations.sum()),
        coverage=_coverage(np.abs(part.errors[right]), deviations[right]),
    ), int(kept.sum())


def _coverage(errors: np.ndarray, deviations: np.ndarray) -> dict[str, float | None]:
    known = np.isfinite(errors) & np.isfinite(deviations)
    within = (known & (errors <= deviations)).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return {
        name: _short(share) if count else None
        for name, share, count in zip(DEVIATION_FIELDS, within, known.sum(axis=0), strict=True)
    }


def _short(value: float) -> float:
    return round(float(value), 4)

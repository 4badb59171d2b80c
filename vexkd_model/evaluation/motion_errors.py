"""Errors of velocities and headings before and after tracking, on the same annotated objects."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vexkd_model.evaluation.box_errors import box_errors
from vexkd_model.evaluation.matching import match_by_centre
from vexkd_model.types import DETECTION_CLASSES, TRACKING_CLASSES, Boxes

MOVING_MPS = 0.5
CLASSES = np.array([DETECTION_CLASSES.index(name) for name in TRACKING_CLASSES])


@dataclass(frozen=True)
class BeforeAfter:
    """Mean errors over `boxes` annotated boxes: velocity [m/s], heading [rad], of detections and of tracks."""

    boxes: int
    velocity_before: float
    velocity_after: float
    heading_before: float
    heading_after: float


@dataclass(frozen=True)
class MotionErrors:
    """Errors by class, their mean over the classes, and of all boxes that move faster than MOVING_MPS."""

    classes: dict[str, BeforeAfter]
    mean: BeforeAfter | None
    moving: BeforeAfter | None


def motion_errors(frames: Iterable[tuple[tuple[Boxes, np.ndarray], tuple[Boxes, np.ndarray], Boxes]]) -> MotionErrors:
    """Compare detections and tracks, each (boxes, scores), with the annotated boxes of the same frames.

    Of every annotated box of the tracking classes whose centre both have within 2 m, whatever they score, and whose
    velocity all three know.
    """
    rows = np.concatenate([np.empty((0, 6)), *(_errors(*frame) for frame in frames)])
    classes = {
        name: _means(rows[rows[:, 0] == label])
        for name, label in zip(TRACKING_CLASSES, CLASSES, strict=True)
        if (rows[:, 0] == label).any()
    }
    moving = rows[rows[:, 1] > MOVING_MPS]
    return MotionErrors(classes, _mean(list(classes.values())), _means(moving) if len(moving) else None)


def _errors(found: tuple[Boxes, np.ndarray], tracked: tuple[Boxes, np.ndarray], truth: Boxes) -> np.ndarray:
    """Rows (K, 6): label, true speed, errors of velocity and heading of detection and track."""
    truth = _of_classes(truth, np.isin(truth.labels, CLASSES))
    hit_of = []
    for boxes, scores in (found, tracked):
        hits = match_by_centre(boxes, scores, truth).hits
        hit_of.append({int(annotation): int(hit) for hit, annotation in hits})
    both = sorted(hit_of[0].keys() & hit_of[1].keys())
    labels, values = truth.labels[both], truth.values[both]
    columns = [labels, np.linalg.norm(values[:, 7:9], axis=1)]
    for (boxes, _), hits in zip((found, tracked), hit_of, strict=True):
        off = box_errors(boxes.values[[hits[i] for i in both]], values, labels)
        columns += [np.hypot(off[:, 4], off[:, 5]), np.abs(off[:, 3])]
    rows = np.column_stack(columns)
    return rows[np.isfinite(rows).all(axis=1)]


def _of_classes(boxes: Boxes, kept: np.ndarray) -> Boxes:
    return Boxes(boxes.values[kept], boxes.labels[kept])


def _means(rows: np.ndarray) -> BeforeAfter:
    velocity_before, heading_before, velocity_after, heading_after = rows[:, 2:].mean(axis=0).tolist()
    return BeforeAfter(len(rows), velocity_before, velocity_after, heading_before, heading_after)


def _mean(classes: list[BeforeAfter]) -> BeforeAfter | None:
    if not classes:
        return None
    means = [
        float(np.mean([getattr(one, name) for one in classes]))
        for name in ("velocity_before", "velocity_after", "heading_before", "heading_after")
    ]
    return BeforeAfter(sum(one.boxes for one in classes), *means)

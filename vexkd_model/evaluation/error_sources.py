"""Sources of a detector's errors: what its AP would be with one kind of error mended.

Source: TIDE (Bolya et al., ECCV 2020), with distances between centres for overlaps, as in the nuScenes metrics.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from vexkd_model.data.index import FrameIndex
from vexkd_model.evaluation.box_errors import box_errors
from vexkd_model.evaluation.details import DIRECTED
from vexkd_model.evaluation.matching import MATCH_DISTANCE_M, match_by_centre
from vexkd_model.evaluation.motion_errors import MOVING_MPS
from vexkd_model.evaluation.precision import PrecisionRecall, in_range
from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction

NEAR_M = 4.0  # the farthest that the metrics match: what lies beyond is not this object
REVERSED_RAD = 0.75 * np.pi


@dataclass(frozen=True)
class Headings:
    """Boxes found of a class, standing or moving, and the share whose heading is wrong by more than 135°."""

    found: int
    reversed: float | None


@dataclass(frozen=True)
class ErrorSources:
    """AP by class, as it is and with one kind of error mended; headings of classes with a front.

    as_found: AP as in `PrecisionRecall`.
    class_right: detections within 2 m of an object have its class, and only the best of them counts.
    place_right: detections within 4 m of an object of their class lie on it, one on each.
    no_background: without detections that have no object within 4 m.
    none_missed: without objects that have no detection of any class within 2 m.
    """

    as_found: dict[str, float]
    class_right: dict[str, float]
    place_right: dict[str, float]
    no_background: dict[str, float]
    none_missed: dict[str, float]
    standing: dict[str, Headings]
    moving: dict[str, Headings]

    def to_dict(self) -> dict:
        """Convert to plain dictionaries and numbers, for JSON."""
        return asdict(self)


class ErrorCounter:
    """Counter of errors over frames."""

    def __init__(self) -> None:
        self._curves = {mend: PrecisionRecall() for mend in (_as_found, *MENDED)}
        self._headings = [np.empty((0, 3))]

    def follow(self, predictions: Iterable[Prediction], index: FrameIndex) -> Iterator[Prediction]:
        """Yield the same predictions, one a keyframe of the index, and count each."""
        for i, prediction in enumerate(predictions):
            self.update(prediction, index[i].counted_boxes)
            yield prediction

    def update(self, prediction: Prediction, truth: Boxes) -> None:
        """Add one frame; truth: the annotated boxes that hold a LiDAR or radar point."""
        boxes, scores, truth = in_range(prediction, truth)
        found = replace(prediction, boxes=boxes, scores=scores)
        distances = _distances(boxes, truth)
        for mend, curves in self._curves.items():
            curves.update(*mend(found, truth, distances))
        hits = match_by_centre(boxes, scores, truth).hits
        hits = hits[DIRECTED[truth.labels[hits[:, 1]]]]
        detected, actual = boxes.values[hits[:, 0]], truth.values[hits[:, 1]]
        labels = truth.labels[hits[:, 1]]
        turned = np.abs(box_errors(detected, actual, labels)[:, 3])
        speed, wrong = np.linalg.norm(actual[:, 7:9], axis=1), (turned > REVERSED_RAD).astype(float)
        self._headings.append(np.column_stack([labels, speed, wrong]))

    def result(self) -> ErrorSources:
        """Compute the figures of all frames so far."""
        rows = np.concatenate(self._headings)
        standing, moving = rows[:, 1] <= MOVING_MPS, rows[:, 1] > MOVING_MPS  # neither where the speed is unknown
        as_found, class_right, place_right, no_background, none_missed = (
            curves.average_precision() for curves in self._curves.values()
        )
        return ErrorSources(
            as_found=as_found,
            class_right=class_right,
            place_right=place_right,
            no_background=no_background,
            none_missed=none_missed,
            standing=_headings(rows[standing]),
            moving=_headings(rows[moving]),
        )


def _headings(rows: np.ndarray) -> dict[str, Headings]:
    by_class = {name: rows[rows[:, 0] == i, 2] for i, name in enumerate(DETECTION_CLASSES) if DIRECTED[i]}
    return {name: Headings(len(own), float(own.mean()) if len(own) else None) for name, own in by_class.items()}


def _distances(boxes: Boxes, truth: Boxes) -> np.ndarray:
    """Distances (M, N) between centres of detections and objects, seen from above [m]."""
    return np.linalg.norm(boxes.values[:, None, :2] - truth.values[None, :, :2], axis=2)


def _as_found(found: Prediction, truth: Boxes, distances: np.ndarray) -> tuple[Prediction, Boxes]:
    return found, truth


def _class_right(found: Prediction, truth: Boxes, distances: np.ndarray) -> tuple[Prediction, Boxes]:
    labels, kept, taken = found.boxes.labels.copy(), np.ones(len(found.scores), bool), set[int]()
    for i in np.argsort(-found.scores, kind="stable") if len(truth) else ():
        nearest = int(distances[i].argmin())
        if distances[i, nearest] < MATCH_DISTANCE_M:
            labels[i], kept[i] = truth.labels[nearest], nearest not in taken
            taken.add(nearest)
    return _only(replace(found, boxes=Boxes(found.boxes.values, labels)), kept), truth


def _place_right(found: Prediction, truth: Boxes, distances: np.ndarray) -> tuple[Prediction, Boxes]:
    values = found.boxes.values.copy()
    for i, nearest in match_by_centre(found.boxes, found.scores, truth, NEAR_M).hits:
        values[i, :2] = truth.values[nearest, :2]
    return replace(found, boxes=Boxes(values, found.boxes.labels)), truth


def _no_background(found: Prediction, truth: Boxes, distances: np.ndarray) -> tuple[Prediction, Boxes]:
    return _only(found, (distances < NEAR_M).any(axis=1)), truth


def _none_missed(found: Prediction, truth: Boxes, distances: np.ndarray) -> tuple[Prediction, Boxes]:
    seen = (distances < MATCH_DISTANCE_M).any(axis=0)
    return found, Boxes(truth.values[seen], truth.labels[seen])


Mend = Callable[[Prediction, Boxes, np.ndarray], tuple[Prediction, Boxes]]
MENDED: tuple[Mend, ...] = (_class_right, _place_right, _no_background, _none_missed)


def _only(found: Prediction, kept: np.ndarray) -> Prediction:
    return replace(found, boxes=Boxes(found.boxes.values[kept], found.boxes.labels[kept]), scores=found.scores[kept])

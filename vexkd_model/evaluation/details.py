"""Details behind the official figures: precision–recall curves, and errors by distance and by speed."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from vexkd_model.evaluation.matching import MATCH_DISTANCE_M, match_by_centre
from vexkd_model.evaluation.precision import PrecisionRecall, in_range
from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction

DISTANCE_BANDS_M = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
SPEED_BANDS_MPS = (0.0, 0.5, 2.0, 5.0, 10.0, math.inf)
# A cone has no front, a barrier two; neither has a velocity in the official metrics.
DIRECTED = np.array([name not in ("barrier", "traffic_cone") for name in DETECTION_CLASSES])


@dataclass(frozen=True)
class Band:
    """Annotated boxes between two distances [m] or speeds [m/s], the upper None where it is open.

    Of classes with a front. found: those that a detection matches at 2 m, whatever its score. heading: mean error of
    these [rad], velocity: mean error [m/s]; None without any.
    """

    low: float
    high: float | None
    truth: int
    found: int
    heading: float | None
    velocity: float | None


@dataclass(frozen=True)
class Details:
    """Curves and bands. precision: of each class at recalls 0, 0.01, … 1, matched at 2 m."""

    precision: dict[str, tuple[float, ...]]
    by_distance: tuple[Band, ...]
    by_speed: tuple[Band, ...]

    def to_dict(self) -> dict:
        """Convert to plain dictionaries, lists and numbers, for JSON."""
        return asdict(self)

    @classmethod
    def of_dict(cls, values: dict) -> "Details":
        """Make what `to_dict` has written; TypeError or KeyError of anything else."""
        bands = (tuple(Band(**band) for band in values[name]) for name in ("by_distance", "by_speed"))
        return cls({name: tuple(curve) for name, curve in values["precision"].items()}, *bands)


class DetailCounter:
    """Counter of matches over a whole set."""

    def __init__(self) -> None:
        self._curves = PrecisionRecall((MATCH_DISTANCE_M,))
        self._rows: list[np.ndarray] = []

    def update(self, prediction: Prediction, truth: Boxes) -> None:
        """Add one frame; truth: the annotated boxes that hold a LiDAR or radar point."""
        self._curves.update(prediction, truth)
        found, scores, truth = in_range(prediction, truth)
        matches = match_by_centre(found, scores, truth)
        of_truth = np.full(len(truth), -1)
        of_truth[matches.hits[:, 1]] = matches.hits[:, 0]
        directed = DIRECTED[truth.labels]
        self._rows.append(_compare(truth.values[directed], found.values, of_truth[directed]))

    def result(self) -> Details:
        """Compute curves and bands of all frames so far."""
        rows = np.concatenate(self._rows) if self._rows else np.empty((0, 5))
        curves = {
            name: tuple(round(float(value), 4) for value in self._curves.precision(label)[0])
            for label, name in enumerate(DETECTION_CLASSES)
        }
        return Details(curves, _bands(rows, 0, DISTANCE_BANDS_M), _bands(rows, 1, SPEED_BANDS_MPS))


def _compare(truth: np.ndarray, found: np.ndarray, match: np.ndarray) -> np.ndarray:
    """Rows (M, 5) of annotations (M, 9): distance, speed, found (1 or 0), errors of heading and of velocity.

    match: (M,), the detection of each annotation in `found`, −1 without. NaN stands for what is unknown.
    """
    hit = match >= 0
    errors = np.full((len(truth), 2), np.nan)
    if hit.any():
        matched, actual = found[match[hit]], truth[hit]
        turned = matched[:, 6] - actual[:, 6]
        errors[hit, 0] = np.abs(np.arctan2(np.sin(turned), np.cos(turned)))
        errors[hit, 1] = np.linalg.norm(np.nan_to_num(matched[:, 7:9]) - actual[:, 7:9], axis=1)
    return np.column_stack([np.linalg.norm(truth[:, :2], axis=1), np.linalg.norm(truth[:, 7:9], axis=1), hit, errors])


def _bands(rows: np.ndarray, column: int, borders: Sequence[float]) -> tuple[Band, ...]:
    bands = []
    for low, high in itertools.pairwise(borders):
        inside = rows[(rows[:, column] >= low) & (rows[:, column] < high)]
        bands.append(
            Band(
                low,
                None if math.isinf(high) else high,
                len(inside),
                int(inside[:, 2].sum()),
                _mean(inside[:, 3]),
                _mean(inside[:, 4]),
            )
        )
    return tuple(bands)


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 4) if len(known) else None

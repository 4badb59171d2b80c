"""Errors of matched boxes, and their standard deviations by range."""

import numpy as np

from vexkd_model.deploy.reliability import Deviation
from vexkd_model.types import DETECTION_CLASSES, DEVIATION_FIELDS

COVERED = 0.6827  # share of a normal distribution within one standard deviation
RANGES_M = (10.0, 20.0, 30.0, 40.0)  # ends of the ranges, where each holds enough matches
LEAST_MATCHES = 100  # of a range: the quantile of fewer says little
HALF_TURN = DETECTION_CLASSES.index("barrier")  # looks the same from both sides, for the official metrics, too


def box_errors(found: np.ndarray, truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute errors float64 (K, 6), in the order of DEVIATION_FIELDS, of boxes found (K, 9) and true ones (K, 9).

    Heading errors lie in ±π, a barrier's in ±π/2. Velocity errors are NaN where the true velocity is unknown.
    """
    off = found.astype(np.float64) - truth
    sight = np.arctan2(found[:, 1], found[:, 0]).astype(np.float64)
    period = np.where(labels == HALF_TURN, np.pi, 2 * np.pi)
    turned = (off[:, 6] + period / 2) % period - period / 2
    return np.column_stack(
        [*_along_across(off[:, :2], sight), off[:, 2], turned, *_along_across(off[:, 7:9], found[:, 6])]
    )


def _along_across(vectors: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.cos(direction.astype(np.float64)), np.sin(direction.astype(np.float64))
    return vectors[:, 0] * cos + vectors[:, 1] * sin, vectors[:, 1] * cos - vectors[:, 0] * sin


def deviations_by_range(errors: np.ndarray, distances: np.ndarray) -> tuple[Deviation, ...]:
    """Measure deviations of errors (K, 6) at distances (K,) [m], nearest range first; none of too few.

    A range with less than LEAST_MATCHES is joined to the next, the last one to that before it.
    """
    if len(errors) < LEAST_MATCHES:
        return ()
    ends, begin = [], 0.0
    for end in RANGES_M:
        inside = np.count_nonzero((distances > begin) & (distances <= end))
        if inside >= LEAST_MATCHES and np.count_nonzero(distances > end) >= LEAST_MATCHES:
            ends.append(end)
            begin = end
    number = np.searchsorted(ends, distances)
    return tuple(
        Deviation.model_validate({"to": end, "matches": int((number == i).sum()), **_deviations(errors[number == i])})
        for i, end in enumerate([*ends, None])
    )


def _deviations(errors: np.ndarray) -> dict[str, float | None]:
    return {name: _quantile(column) for name, column in zip(DEVIATION_FIELDS, np.abs(errors).T, strict=True)}


def _quantile(errors: np.ndarray) -> float | None:
    known = errors[np.isfinite(errors)]
    return float(f"{np.quantile(known, COVERED):.4g}") if len(known) else None

"""Loss curves with few points, small enough for a repository."""

from collections.abc import Mapping

import numpy as np

from vexkd_model.training.read_losses import SUM, TERM, Curve

MAX_POINTS, DIGITS = 60, 4


def thin_curves(curves: Mapping[str, Curve], points: int = MAX_POINTS) -> dict[str, object]:
    """Steps, total and terms of a run's losses by name, at most `points` of each.

    The first and the last logged step stay. A value is the mean of what was logged since the step before: a single
    batch says little. None where a term was not logged, as of masks that no longer learn.
    """
    steps = curves[SUM].steps
    kept = np.unique(np.linspace(0, len(steps) - 1, min(points, len(steps))).round().astype(int))
    ends = steps[kept].tolist()
    terms = {name.removeprefix(TERM): _means(curve, ends) for name, curve in sorted(curves.items()) if name != SUM}
    return {"steps": ends, "total": _means(curves[SUM], ends), "terms": terms}


def _means(curve: Curve, ends: list[int]) -> list[float | None]:
    """Means over the steps of each interval (previous end, end]."""
    means, start = [], -1
    for end in ends:
        inside = curve.values[(curve.steps > start) & (curve.steps <= end)]
        means.append(float(f"{inside.mean():.{DIGITS}g}") if len(inside) else None)
        start = end
    return means

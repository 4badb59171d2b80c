"""Figures of machine-made labels as text."""

from collections.abc import Sequence

import numpy as np

from vexkd_model.autolabel.autolabel import Result
from vexkd_model.autolabel.quality import ERRORS, ClassQuality
from vexkd_model.text_table import aligned
from vexkd_model.types import DETECTION_CLASSES


def quality_table(result: Result) -> str:
    """Format figures a class, of the detections as they are and of the labels made of them; empty without truth."""
    if not result.judged:
        return ""
    columns = ["precision", "recall", *(f"{kind} [{unit}]" for kind, unit in ERRORS.items())]
    rows = [["detections → labels", "true", "score", *columns]]
    for name in DETECTION_CLASSES:
        if name in result.after or name in result.before:
            sides = [side.get(name) for side in (result.before, result.after)]
            true = next(side.true for side in sides if side is not None)
            cells = [_pair([_values(side)[i] for side in sides]) for i in range(len(columns))]
            rows.append([name, str(true), f"{result.thresholds[name]:.2f}", *cells])
    means = [_means(list(side.values())) for side in (result.before, result.after)]
    rows.append(["mean of classes", "", "", *(_pair([side[i] for side in means]) for i in range(len(columns)))])
    return aligned(rows)


def _values(figures: ClassQuality | None) -> list[float | None]:
    if figures is None:
        return [None] * (2 + len(ERRORS))
    return [figures.precision, figures.recall, *(figures.errors[kind] for kind in ERRORS)]


def _means(classes: Sequence[ClassQuality]) -> list[float | None]:
    """Means over the classes for which there is a figure."""
    columns = np.array([_values(figures) for figures in classes], float).reshape(len(classes), -1)
    return [float(np.nanmean(column)) if np.isfinite(column).any() else None for column in columns.T]


def _pair(sides: Sequence[float | None]) -> str:
    texts = ["–" if value is None else f"{value:.2f}" for value in sides]
    return "" if texts == ["–", "–"] else " → ".join(texts)

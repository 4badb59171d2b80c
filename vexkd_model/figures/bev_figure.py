"""Picture of a result: one frame from above, with ground truth and the student's prediction."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vexkd_model.figures.bev_axes import (
    INK,
    boxes_inside,
    class_colours,
    class_swatches,
    draw_boxes,
    draw_map,
    draw_points,
    draw_velocities,
    frame_axes,
    map_swatches,
    save_png,
)
from vexkd_model.geometry.boxes import corners_bev
from vexkd_model.types import BevGrid, Boxes, Prediction

# Of a model whose card states no thresholds; detections below are what a precision-recall curve needs, not a person.
SHOWN_SCORE = 0.3
MAP_THRESHOLD = 0.5
TRUTH = "#2e9e44"


def bev_figure(
    path: Path,
    points: np.ndarray,
    truth: Boxes | None,
    prediction: Prediction,
    map_truth: np.ndarray | None,
    title: str,
    thresholds: np.ndarray | None = None,
) -> None:
    """Write a PNG of one frame from above, x forward to the right and y left upwards, all in base_link.

    points: (N, ≥ 3) [m]. truth: the annotated boxes. prediction: its boxes as `shown_boxes` chooses them and its map,
    whose grid is the picture's range. map_truth: bool (6, Y, X) on that grid. The folder is made where absent, and a
    reader sees the old file or the whole new one.
    """
    grid, probabilities = prediction.map_grid, prediction.map_probabilities
    assert grid is not None and probabilities is not None, "a picture of a student that draws a map"
    found = boxes_inside(shown_boxes(prediction, thresholds), grid)
    truth = None if truth is None else boxes_inside(truth, grid)
    figure = Figure(figsize=(10.4, 8.1) if map_truth is not None else (12.4, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, fontsize=13, parse_math=False)
    if map_truth is not None:
        panels = figure.subplot_mosaic([["scene", "map"], ["scene", "map truth"]], width_ratios=[2.1, 1])
        draw_map(panels["map truth"], map_truth.astype(bool), grid, "true map")
    else:
        panels = figure.subplot_mosaic([["scene", "map"]])
    draw_map(panels["map"], probabilities >= MAP_THRESHOLD, grid, "predicted map")
    if map_truth is not None:
        panels["map"].set_xlabel("")  # the axis below it is the same
    draw_detections(panels["scene"], points, truth, found, grid)
    figure.legend(
        handles=_legend(truth, found), loc="outside lower center", ncols=6, frameon=False, fontsize=9, labelcolor=INK
    )
    save_png(figure, Path(path))


def shown_boxes(prediction: Prediction, thresholds: np.ndarray | None) -> Boxes:
    """Select boxes by the thresholds (10,) of their model's card, or by SHOWN_SCORE if it has none."""
    return prediction.scoring(SHOWN_SCORE if thresholds is None else thresholds).boxes


def draw_detections(axes: Axes, points: np.ndarray, truth: Boxes | None, found: Boxes, grid: BevGrid) -> None:
    """Draw points (N, ≥ 3), true boxes in green, detections in the colours of their classes with arrows of 1 s."""
    axes.grid(color="#e8ebef", linewidth=0.6)
    axes.set_axisbelow(True)
    draw_points(axes, points)
    if truth is not None and len(truth):
        axes.add_collection(PolyCollection(list(corners_bev(truth.values)), facecolors=TRUTH + "38", zorder=3))
        draw_boxes(axes, truth.values, [TRUTH] * len(truth), linewidth=0.9)
    if len(found):
        draw_boxes(axes, found.values, class_colours(found.labels), linewidth=1.5)
        draw_velocities(axes, found.values)
    of_truth = "" if truth is None else f", {len(truth)} annotated"
    frame_axes(axes, grid, f"{len(found)} detections{of_truth}")


def _legend(truth: Boxes | None, found: Boxes) -> list[Patch]:
    """Make legend entries: ego vehicle, ground truth, the classes that are shown, all map classes."""
    handles = [Patch(color=INK, label="ego vehicle")]
    if truth is not None:
        handles.append(Patch(facecolor=TRUTH + "38", edgecolor=TRUTH, label="ground truth"))
    return handles + class_swatches(found.labels) + map_swatches()

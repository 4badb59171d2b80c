"""Figure of one model's prediction for a frame (`vexkd plot predictions`), from above, with the ground truth."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.figures.bev_axes import (
    INK,
    WIDTH_IN,
    boxes_inside,
    class_colours,
    class_swatches,
    draw_boxes,
    draw_map,
    draw_points,
    draw_velocities,
    frame_axes,
    map_swatches,
    outlines_of,
    save_figure,
)
from vexkd_model.figures.scene import frame_name
from vexkd_model.training.run import load_predictor
from vexkd_model.types import BevGrid, Boxes, Prediction

# Of a model whose card states no thresholds; detections below are what a precision-recall curve needs, not a person.
SHOWN_SCORE = 0.3
MAP_THRESHOLD = 0.5
TRUTH = "#2e9e44"


def plot_predictions(path: Path, folder: Path, index: FrameIndex, i: int) -> None:
    """Write a picture of what the model of a run or package predicts for frame i."""
    predictor, record = load_predictor(folder), index[i]
    config = predictor.config
    bev_figure(
        path,
        record.load_points(sweeps=1),
        record.seen_boxes,
        predictor.predict(load_frame(index, i, config)),
        None if config.segmentation is None else index.map_mask(i),
        f"{folder.resolve().name} on {frame_name(index, i)}",
        config.grid.grid(),
        predictor.thresholds,
    )


def bev_figure(
    path: Path,
    points: np.ndarray,
    truth: Boxes | None,
    prediction: Prediction,
    map_truth: np.ndarray | None,
    title: str,
    grid: BevGrid | None = None,
    thresholds: np.ndarray | None = None,
) -> None:
    """Write a picture of one frame from above, x (forward) up, all in base_link.

    points: (N, ≥ 3) [m]. truth: the annotated boxes. prediction: its boxes as `shown_boxes` chooses them and its map,
    whose grid is the picture's range. map_truth: bool (6, Y, X) on that grid. grid: the range of a picture without
    a map. The folder is made where absent, and a reader sees the old file or the whole new one.
    """
    grid, probabilities = prediction.map_grid or grid, prediction.map_probabilities
    assert grid is not None, "a picture without a map is of a range that is given"
    found = boxes_inside(shown_boxes(prediction, thresholds), grid)
    truth = None if truth is None else boxes_inside(truth, grid)
    figure = Figure(figsize=(WIDTH_IN, 7.4 if map_truth is not None else 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, fontsize=11, parse_math=False)
    layout: list[Any] = [["scene"]] if probabilities is None else [["scene", "map"]]
    if map_truth is not None:
        layout = [["scene", "map"], ["scene", "map truth"]]
    panels = figure.subplot_mosaic(layout, width_ratios=[2.1, 1] if len(layout) == 2 else None)
    if probabilities is not None:
        draw_map(panels["map"], probabilities >= MAP_THRESHOLD, grid, "predicted map")
    if map_truth is not None:
        draw_map(panels["map truth"], map_truth.astype(bool), grid, "true map")
        panels["map"].set_xlabel("")  # the axis below it is the same
    draw_detections(panels["scene"], points, truth, found, grid)
    figure.legend(
        handles=_legend(truth, found), loc="outside lower center", ncols=5, frameon=False, fontsize=9, labelcolor=INK
    )
    save_figure(figure, Path(path))


def shown_boxes(prediction: Prediction, thresholds: np.ndarray | None) -> Boxes:
    """Select boxes by the thresholds (10,) of their model's card, or by SHOWN_SCORE if it has none."""
    return prediction.scoring(SHOWN_SCORE if thresholds is None else thresholds).boxes


def draw_detections(axes: Axes, points: np.ndarray, truth: Boxes | None, found: Boxes, grid: BevGrid) -> None:
    """Draw points (N, ≥ 3), true boxes in green, detections in the colours of their classes with arrows of 1 s."""
    axes.grid(color="#e8ebef", linewidth=0.6)
    axes.set_axisbelow(True)
    draw_points(axes, points)
    if truth is not None and len(truth):
        axes.add_collection(PolyCollection(list(outlines_of(truth.values)), facecolors=TRUTH + "38", zorder=3))
        draw_boxes(axes, truth.values, [TRUTH] * len(truth), linewidth=0.9)
    if len(found):
        draw_boxes(axes, found.values, class_colours(found.labels), linewidth=1.5)
        draw_velocities(axes, found.values)
    of_truth = "" if truth is None else f",\n{len(truth)} annotated"
    frame_axes(axes, grid, f"{len(found)} detections{of_truth}")


def _legend(truth: Boxes | None, found: Boxes) -> list[Patch]:
    """Make legend entries: ego vehicle, ground truth, the classes that are shown, all map classes."""
    handles = [Patch(color=INK, label="ego vehicle")]
    if truth is not None:
        handles.append(Patch(facecolor=TRUTH + "38", edgecolor=TRUTH, label="ground truth"))
    return handles + class_swatches(found.labels) + map_swatches()

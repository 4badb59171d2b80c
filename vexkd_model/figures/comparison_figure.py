"""Figure of several students on one frame, side by side: boxes, velocities and map of each in one panel."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vexkd_model.figures.bev_axes import (
    INK,
    WIDTH_IN,
    boxes_inside,
    class_swatches,
    frame_axes,
    map_swatches,
    paint_map,
    save_figure,
)
from vexkd_model.figures.bev_figure import MAP_THRESHOLD, TRUTH, draw_detections, shown_boxes
from vexkd_model.figures.scene import MAP_OPACITY, Scene
from vexkd_model.types import Prediction

COLUMNS = 2


class StudentPanel(NamedTuple):
    """One student's prediction for the frame, with boxes and a map, its card's thresholds, and its panel's title."""

    title: str
    prediction: Prediction
    thresholds: np.ndarray | None = None


def comparison_figure(path: Path, scene: Scene, answers: Sequence[StudentPanel]) -> None:
    """Write a picture with a panel for each answer, two in a row, on the range of its map."""
    rows = -(-len(answers) // COLUMNS)
    figure = Figure(figsize=(WIDTH_IN, 4.9 * rows + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{scene.name}; arrows: the way of 1 s", color=INK, fontsize=12, parse_math=False)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for panel, answer in zip(panels, answers, strict=False):
        draw_answer(panel, scene, answer)
    for unused in list(panels)[len(answers) :]:
        unused.set_axis_off()
    labels = np.concatenate([shown_boxes(answer.prediction, answer.thresholds).labels for answer in answers])
    truth = Patch(facecolor=TRUTH + "38", edgecolor=TRUTH, label="ground truth")
    figure.legend(
        handles=[Patch(color=INK, label="ego vehicle"), truth, *class_swatches(labels), *map_swatches(MAP_OPACITY)],
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    save_figure(figure, path)


def draw_answer(panel: Axes, scene: Scene, answer: StudentPanel) -> None:
    """Draw boxes, velocities and map of one student over points and true boxes, on the range of its map."""
    grid, probabilities = answer.prediction.map_grid, answer.prediction.map_probabilities
    assert grid is not None and probabilities is not None, "a picture of a student that draws a map"
    found = boxes_inside(shown_boxes(answer.prediction, answer.thresholds), grid)
    draw_detections(panel, scene.points, boxes_inside(scene.boxes, grid), found, grid)
    paint_map(panel, probabilities >= MAP_THRESHOLD, grid, MAP_OPACITY)
    frame_axes(panel, grid, f"{answer.title}\n{len(found)} detections, map")

"""Figure of several models beside the ground truth (`vexkd plot students`), such as without and with a teacher."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.figures.bev_axes import (
    INK,
    WIDTH_IN,
    boxes_inside,
    bright_end,
    class_colours,
    class_swatches,
    draw_boxes,
    draw_points,
    draw_values,
    frame_axes,
    leave_empty,
    map_swatches,
    paint_map,
    save_figure,
)
from vexkd_model.figures.bev_figure import MAP_THRESHOLD, TRUTH, draw_detections, shown_boxes
from vexkd_model.figures.losses_figure import short_names
from vexkd_model.figures.scene import Scene, load_scene
from vexkd_model.training.pictures import cells_in_base_link, magnitude
from vexkd_model.training.run import load_predictor, taught_by
from vexkd_model.types import SEGMENTATION_GRID, BevGrid, Prediction


class ModelRow(NamedTuple):
    """Row of the figure: output of one model.

    high: length of each cell's features in its high-level map, float32 (Y, X) on `grid`. detects: whether it has a
    detection head. thresholds: of its card, if it states any.
    """

    title: str
    high: np.ndarray
    grid: BevGrid
    prediction: Prediction
    detects: bool
    thresholds: np.ndarray | None = None


def plot_students(path: Path, folders: Sequence[Path], index: FrameIndex, i: int) -> None:
    """Write a picture of frame i. folders: runs and packages, in any order."""
    predictors = [load_predictor(folder) for folder in folders]
    scene, answers = load_scene(index, i), []
    for name, folder, predictor in zip(short_names(folders), folders, predictors, strict=True):
        config = predictor.config
        frame = load_frame(index, i, config)
        prediction = predictor.predict(frame)
        with torch.no_grad():
            high = magnitude(predictor.model(sensors_for(config, [frame])).features.high[0])
        answers.append(
            ModelRow(
                f"{name}\n{_sensors(config)}, {_teaching(folder)}",
                cells_in_base_link(high, config).numpy(),
                config.grid.grid(),
                prediction,
                config.detection is not None,
                predictor.thresholds,
            )
        )
    save_figure(students_figure(scene, answers), path)


def students_figure(scene: Scene, answers: Sequence[ModelRow]) -> Figure:
    """Draw a row per model: high-level map, detections and map, as far as it has heads. The last row is the truth."""
    detects = any(answer.detects for answer in answers)
    segments = any(answer.prediction.map_probabilities is not None for answer in answers)
    columns, rows = 1 + detects + segments, len(answers) + 1
    figure = Figure(figsize=(WIDTH_IN, WIDTH_IN / columns * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(scene.name, color=INK, fontsize=11, parse_math=False)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, answer in zip(panels[:-1], answers, strict=True):
        _draw_high(axes[0], answer)
        if detects:
            _draw_boxes(axes[1], scene, answer)
        if segments:
            _draw_map(axes[-1], answer)
    _draw_truth(panels[-1], scene, answers[0].grid, detects, segments)
    for axes in panels.ravel():
        axes.label_outer()
    shown = [scene.boxes.labels, *(shown_boxes(answer.prediction, answer.thresholds).labels for answer in answers)]
    panels[-1, 0].legend(
        handles=_legend(np.concatenate(shown), detects, segments),
        loc="center",
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return figure


def _draw_high(axes: Axes, answer: ModelRow) -> None:
    draw_values(axes, answer.high, answer.grid, "high-level map", 0, bright_end(answer.high))
    axes.set_ylabel(f"{answer.title}\n\nx, forward [m]", fontsize=9, parse_math=False)


def _draw_boxes(axes: Axes, scene: Scene, answer: ModelRow) -> None:
    if not answer.detects:
        leave_empty(axes, "detects nothing")
        return
    found, truth = (
        boxes_inside(boxes, answer.grid) for boxes in (shown_boxes(answer.prediction, answer.thresholds), scene.boxes)
    )
    draw_detections(axes, scene.points, truth, found, answer.grid)


def _draw_map(axes: Axes, answer: ModelRow) -> None:
    probabilities, grid = answer.prediction.map_probabilities, answer.prediction.map_grid
    if probabilities is None or grid is None:
        leave_empty(axes, "draws no map")
        return
    paint_map(axes, probabilities >= MAP_THRESHOLD, grid)
    frame_axes(axes, answer.grid, f"map, probability ≥ {MAP_THRESHOLD}")


def _draw_truth(panels: Sequence[Axes], scene: Scene, grid: BevGrid, detects: bool, segments: bool) -> None:
    panels[0].set_axis_off()
    if detects:
        boxes = boxes_inside(scene.boxes, grid)
        draw_points(panels[1], scene.points)
        draw_boxes(panels[1], boxes.values, class_colours(boxes.labels), linewidth=1.5)
        panels[1].grid(False)
        frame_axes(panels[1], grid, f"ground truth: {len(boxes)} boxes")
    if not segments:
        return
    if scene.map_masks is None:
        leave_empty(panels[-1], "ground truth: no map")
    else:
        paint_map(panels[-1], scene.map_masks, SEGMENTATION_GRID)
        frame_axes(panels[-1], grid, "ground truth: map")


def _legend(labels: np.ndarray, detects: bool, segments: bool) -> list[Patch]:
    boxes = [Patch(facecolor=TRUTH + "38", edgecolor=TRUTH, label="ground truth"), *class_swatches(labels)]
    return [Patch(color=INK, label="ego vehicle"), *(boxes if detects else []), *(map_swatches() if segments else [])]


def _sensors(config: ModelConfig) -> str:
    return " and ".join(config.sensors)


def _teaching(folder: Path) -> str:
    teacher = taught_by(folder)
    return "without a teacher" if teacher is None else f"taught by {teacher}"

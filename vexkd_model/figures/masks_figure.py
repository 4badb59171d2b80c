"""Figure of the masks of distilled students, by level and task (`vexkd plot masks`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.network_frame import move_boxes
from vexkd_model.figures.bev_axes import INK, WIDTH_IN, draw_values, leave_empty, save_figure
from vexkd_model.figures.losses_figure import short_names
from vexkd_model.figures.scene import Scene, draw_scene, load_scene, outline_boxes, scene_legend
from vexkd_model.model import BevFeatures
from vexkd_model.training.load_distiller import load_distiller
from vexkd_model.training.pictures import cells_in_base_link
from vexkd_model.types import BevGrid, Boxes

SHOWN = (0.5, 99.5)  # percentiles of a mask's cells, the ends of its colours


class DrawnMasks(NamedTuple):
    """Row of the figure. masks: float32 (Y, X) in [0, 1] on `grid`, of each level that is distilled."""

    title: str
    masks: dict[str, np.ndarray]
    grid: BevGrid


def plot_masks(path: Path, runs: Sequence[Path], index: FrameIndex, i: int, teacher_from: Path | None = None) -> None:
    """Write a picture of the masks that these runs' distillers draw on frame i. teacher_from: see load_distiller."""
    scene = load_scene(index, i)
    rows = [
        drawn_masks(run, name, index, i, scene.boxes, teacher_from)
        for run, name in zip(runs, short_names(runs), strict=True)
    ]
    save_figure(masks_figure(scene, rows), path)


@torch.no_grad()
def drawn_masks(
    run: Path, name: str, index: FrameIndex, i: int, boxes: Boxes, teacher_from: Path | None = None
) -> DrawnMasks:
    """Compute the masks of a run's distiller on frame i; boxes: for the masks that depend on boxes."""
    distiller, config = load_distiller(run, teacher_from)
    teacher = distiller.teacher
    seen = move_boxes(boxes, teacher.config.network_from_base)
    output = teacher.run(sensors_for(teacher.config, [load_frame(index, i, teacher.config)]))
    masks = {
        level: distiller.masks(level, output.query, getattr(output.features, level), [torch.from_numpy(seen.values)])
        for level in distiller.config.levels
    }
    title = f"{name}: {config.name}, {_tasks(config)}; masks: {distiller.config.masks.replace('_', ' ')}"
    drawn = {level: cells_in_base_link(mask[0, 0], teacher.config).numpy() for level, mask in masks.items()}
    return DrawnMasks(title, drawn, teacher.grid)


def masks_figure(scene: Scene, rows: Sequence[DrawnMasks]) -> Figure:
    """Draw a row per run: the scene, then the mask of each level with the scene's boxes on top."""
    figure = Figure(figsize=(WIDTH_IN, 3.3 * len(rows) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(scene.name, color=INK, fontsize=11, parse_math=False)
    for part, row in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        _draw_row(part, scene, row)
    figure.legend(
        handles=scene_legend(scene, rows[0].grid),
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        columnspacing=1.3,
    )
    return figure


def _draw_row(figure: SubFigure, scene: Scene, row: DrawnMasks) -> None:
    figure.suptitle(row.title, color=INK, fontsize=10.5, parse_math=False)
    first, *panels = figure.subplots(1, 1 + len(BevFeatures._fields))
    draw_scene(first, scene, row.grid)
    for axes, level in zip(panels, BevFeatures._fields, strict=True):
        if level not in row.masks:
            leave_empty(axes, f"{level} level: not distilled")
            continue
        mask = row.masks[level]
        title = f"{level} level, mask {mask.min():.2f} … {mask.max():.2f}"
        image = draw_values(axes, mask, row.grid, title, *_ends(mask))
        outline_boxes(axes, scene.boxes, row.grid)
        axes.label_outer()
        bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, labelcolor=INK)


def _ends(mask: np.ndarray) -> tuple[float, float]:
    """Ends of a mask's colours: around nearly all of its cells, as a learned mask may vary little; else 0 and 1."""
    least, most = np.percentile(mask, SHOWN)
    return (float(least), float(most)) if least < most else (0.0, 1.0)


def _tasks(config: ModelConfig) -> str:
    return " and ".join(name for name in ("detection", "segmentation") if getattr(config, name) is not None)

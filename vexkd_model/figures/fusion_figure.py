"""Figure of a model's BEV maps before and after fusion (`vexkd plot fusion`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.missing_sensor import Sensor, without_sensor
from vexkd_model.errors import UserError
from vexkd_model.figures.bev_axes import INK, WIDTH_IN, bright_end, draw_values, leave_empty, save_figure
from vexkd_model.figures.scene import Scene, draw_scene, load_scene, outline_boxes, scene_legend
from vexkd_model.model import BevModel
from vexkd_model.training.pictures import cells_in_base_link, magnitude
from vexkd_model.training.run import load_trained
from vexkd_model.types import BevGrid, Frame

TITLES = {"lidar": "LiDAR, low level", "camera": "cameras, low level", "low": "fused, low level", "high": "high level"}


class FusedMaps(NamedTuple):
    """Row of the figure.

    maps: length of each cell's features, float32 (Y, X), by key of TITLES; a sensor that is left out has none.
    """

    title: str
    maps: dict[str, np.ndarray]


def plot_fusion(path: Path, folder: Path, index: FrameIndex, i: int, drop: Sensor | None = None) -> None:
    """Write a picture of frame i. folder: of a run or package. drop: draw also what happens without this sensor."""
    model, config = load_trained(folder)
    if len(config.sensors) == 1:
        raise UserError(
            f"{folder}: {config.name} reads only {config.sensors[0]} and fuses nothing; give a model of two sensors"
        )
    frame, scene = load_frame(index, i, config), load_scene(index, i)
    rows = [FusedMaps("with both sensors", fused_maps(model, config, frame))]
    if drop:
        maps = fused_maps(model, config, without_sensor(frame, drop))
        del maps[drop]
        rows.append(FusedMaps(f"without {drop}", maps))
    title = f"{config.name}, maps before and after fusion\n{scene.name}"
    save_figure(fusion_figure(scene, rows, config.grid.grid(), title), path)


@torch.no_grad()
def fused_maps(model: BevModel, config: ModelConfig, frame: Frame) -> dict[str, np.ndarray]:
    """Compute the length of each cell's features, float32 (Y, X), in each sensor's, the fused and the high map."""
    sensors = sensors_for(config, [frame])
    before, _ = model.eval().sensor_maps(sensors)
    assert model.fusion is not None, "a model with two sensors fuses them"
    low = model.fusion(before, sensors.present())
    maps = {**before, "low": low, "high": model.bev(low)}
    return {name: cells_in_base_link(magnitude(of_frame[0]), config).numpy() for name, of_frame in maps.items()}


def fusion_figure(scene: Scene, rows: Sequence[FusedMaps], grid: BevGrid, title: str) -> Figure:
    """Draw the scene and the maps of each row in two lines; a map has one scale, that of the first row."""
    figure = Figure(figsize=(WIDTH_IN, 6.6 * len(rows) + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, fontsize=11, parse_math=False)
    greatest = {name: bright_end(values) for name, values in rows[0].maps.items()}
    for part, row in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        _draw_row(part, scene, row, grid, greatest)
    figure.legend(
        handles=scene_legend(scene, grid),
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        columnspacing=1.3,
    )
    return figure


def _draw_row(part: SubFigure, scene: Scene, row: FusedMaps, grid: BevGrid, greatest: dict[str, float]) -> None:
    part.suptitle(row.title, fontsize=10.5, color=INK)
    axes = part.subplot_mosaic([["scene", "lidar", "camera"], ["bar", "low", "high"]])
    draw_scene(axes["scene"], scene, grid)
    drawn: dict[str, AxesImage] = {}
    for name, label in TITLES.items():
        if name not in row.maps:
            leave_empty(axes[name], f"{name}: silent")
            continue
        drawn[name] = draw_values(
            axes[name], row.maps[name], grid, f"{label}, 0 … {greatest[name]:.2g}", 0, greatest[name]
        )
        outline_boxes(axes[name], scene.boxes, grid)
    for name in ("lidar", "camera", "high"):
        axes[name].set_ylabel("")
    for name in ("lidar", "camera"):
        axes[name].set_xlabel("")  # the axis below it is the same
    axes["bar"].set_axis_off()
    place = axes["bar"].inset_axes((0.05, 0.5, 0.9, 0.07))
    bar = part.colorbar(drawn["high"], cax=place, orientation="horizontal", ticks=[0, greatest["high"]])
    bar.ax.set_xticklabels(["0", "end of range"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, labelcolor=INK)

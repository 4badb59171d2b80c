"""What is true in one frame, from above: what maps and masks are compared with."""

from typing import NamedTuple

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.segmentation_grid import SEGMENTATION_GRID
from vexkd_model.figures.bev_axes import (
    INK,
    boxes_inside,
    class_colours,
    class_swatches,
    draw_boxes,
    draw_points,
    frame_axes,
    map_swatches,
    paint_map,
)
from vexkd_model.figures.find_frame import frame_name
from vexkd_model.types import BevGrid, Boxes

MAP_OPACITY = 0.5  # what lies on the map matters more


class Scene(NamedTuple):
    """points: (N, ≥ 3) of the frame's own sweep, in base_link [m]. boxes: the annotated ones that hold a LiDAR point,
    which is what a model learns to find. map_masks: bool (6, Y, X) on SEGMENTATION_GRID; None where it is unknown.
    name: where the frame comes from.
    """

    points: np.ndarray
    boxes: Boxes
    map_masks: np.ndarray | None
    name: str


def load_scene(index: FrameIndex, i: int) -> Scene:
    record = index[i]
    return Scene(record.load_points(sweeps=1), record.seen_boxes, index.map_mask(i), frame_name(index, i))


def draw_scene(axes: Axes, scene: Scene, grid: BevGrid) -> None:
    """Points, boxes in the colours of their classes, and the map, on the range of `grid`."""
    if scene.map_masks is not None:
        paint_map(axes, scene.map_masks, SEGMENTATION_GRID, MAP_OPACITY)
    draw_points(axes, scene.points)
    boxes = boxes_inside(scene.boxes, grid)
    draw_boxes(axes, boxes.values, class_colours(boxes.labels), linewidth=1.2)
    axes.grid(False)
    frame_axes(axes, grid, f"what is true: {len(boxes)} boxes" + ("" if scene.map_masks is None else " and the map"))


def outline_boxes(axes: Axes, boxes: Boxes, grid: BevGrid) -> None:
    """Boxes on top of a map of values, white with a dark rim: seen on every colour."""
    before = len(axes.collections)
    draw_boxes(axes, boxes_inside(boxes, grid).values, ["white"], linewidth=0.9)
    for lines in axes.collections[before:]:
        lines.set_path_effects([effects.withStroke(linewidth=1.9, foreground=INK)])


def scene_legend(scene: Scene, grid: BevGrid) -> list[Patch]:
    """The ego vehicle, the classes of the boxes on the grid, and the map's where it is known."""
    classes = class_swatches(boxes_inside(scene.boxes, grid).labels)
    map_classes = [] if scene.map_masks is None else map_swatches(MAP_OPACITY)
    return [Patch(color=INK, label="ego vehicle"), *classes, *map_classes]

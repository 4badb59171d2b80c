"""Frame of a prepared dataset for a figure: how it is found, and its ground truth from above."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from vexkd_model.data.index import MANIFEST, FrameIndex, prepare_command
from vexkd_model.errors import UserError
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
from vexkd_model.types import SEGMENTATION_GRID, BevGrid, Boxes

MAP_OPACITY = 0.5  # what lies on the map matters more


class Scene(NamedTuple):
    """Ground truth of one frame.

    points: (N, ≥ 3) of the frame's own sweep, in base_link [m]. boxes: the annotated ones that hold a LiDAR point,
    which is what a model learns to find. map_masks: bool (6, Y, X) on SEGMENTATION_GRID; None where it is unknown.
    name: where the frame comes from.
    """

    points: np.ndarray
    boxes: Boxes
    map_masks: np.ndarray | None
    name: str


def load_scene(index: FrameIndex, i: int) -> Scene:
    """Load the ground truth of frame i."""
    record = index[i]
    return Scene(record.load_points(sweeps=1), record.seen_boxes, index.map_mask(i), frame_name(index, i))


def draw_scene(axes: Axes, scene: Scene, grid: BevGrid) -> None:
    """Draw points, boxes in the colours of their classes, and the map, on the range of `grid`."""
    if scene.map_masks is not None:
        paint_map(axes, scene.map_masks, SEGMENTATION_GRID, MAP_OPACITY)
    draw_points(axes, scene.points)
    boxes = boxes_inside(scene.boxes, grid)
    draw_boxes(axes, boxes.values, class_colours(boxes.labels), linewidth=1.2)
    axes.grid(False)
    frame_axes(axes, grid, f"ground truth: {len(boxes)} boxes" + ("" if scene.map_masks is None else " and the map"))


def outline_boxes(axes: Axes, boxes: Boxes, grid: BevGrid) -> None:
    """Draw boxes on top of a map of values, white with a dark rim, which shows on every colour."""
    before = len(axes.collections)
    draw_boxes(axes, boxes_inside(boxes, grid).values, ["white"], linewidth=0.9)
    for lines in axes.collections[before:]:
        lines.set_path_effects([effects.withStroke(linewidth=1.9, foreground=INK)])


def scene_legend(scene: Scene, grid: BevGrid) -> list[Patch]:
    """Make legend entries: ego vehicle, classes of the boxes on the grid, map classes where the map is known."""
    classes = class_swatches(boxes_inside(scene.boxes, grid).labels)
    map_classes = [] if scene.map_masks is None else map_swatches(MAP_OPACITY)
    return [Patch(color=INK, label="ego vehicle"), *classes, *map_classes]


def prepared_splits(index_dir: Path) -> list[str]:
    """List the splits whose indices lie in the folder; UserError if there is none."""
    splits = sorted(path.parent.name for path in Path(index_dir).glob(f"*/{MANIFEST}"))
    if not splits:
        command = prepare_command(None, None, index_dir)
        raise UserError(f"{index_dir}: no split of the dataset is prepared; run `{command}` first")
    return splits


def frame_at(index: FrameIndex, i: int) -> tuple[FrameIndex, int]:
    """Check that the split has a frame i; the UserError names the frames that there are."""
    if not 0 <= i < len(index):
        raise UserError(f"--frame {i}: split {index.split} has frames 0 … {len(index) - 1}")
    return index, i


def frame_with(indices: Sequence[FrameIndex], column: str, value: str) -> tuple[FrameIndex, int]:
    """Find the first frame whose token or scene (`column`) is `value`, with its split; UserError if there is none."""
    for index in indices:
        values = index.column(column)
        if value in values:
            return index, values.index(value)
    raise UserError(f"--{column} {value}: in none of the prepared splits {', '.join(index.split for index in indices)}")


def frame_name(index: FrameIndex, i: int) -> str:
    """Name frame i for a title: dataset, split, scene and place."""
    record = index[i]
    return f"{index.version}, {index.split}, frame {i} of {len(index)}: {record.scene}, {record.location}"

"""Figure of one annotated frame from above and through its cameras (`vexkd plot frame`), to check a dataset by eye.

Everything passes through the geometry that training uses: a wrong extrinsic, a mirrored yaw or a late ego pose shows
as boxes that stand beside what they should hold.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vexkd_model.data.image_files import load_image
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.machine_made import machine_made_scenes
from vexkd_model.data.sweeps import accumulate_sweeps
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
    on_paper,
    save_figure,
)
from vexkd_model.figures.scene import frame_name
from vexkd_model.geometry.boxes import tilted_corners
from vexkd_model.geometry.camera import FRONT, inside, project, projection, visible_boxes, visible_edges
from vexkd_model.types import SEGMENTATION_GRID, Boxes, CameraImage, Frame

# Rows of two: what looks ahead and back, then left and right as they lie beside the vehicle; others follow.
PLACES = ("CAM_FRONT", "CAM_BACK", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
RANGE_COLOURS = LinearSegmentedColormap.from_list("range", ["#ffd84a", "#41c7a5", "#3b7dd8", "#5b3a9c"])
RANGES_M = (2.0, 50.0)
MAP_OPACITY = 0.5  # what lies on the map matters more
THICK, THIN = 1.2, 0.5  # lines of boxes with and without LiDAR points [pt]
VIEW_M = 9.0  # length of the lines that show from above where a camera looks


def plot_frame(path: Path, index: FrameIndex, i: int) -> None:
    """Write a picture of frame i: its own sweep, all its boxes, the map where known, and the images as stored."""
    record = index[i]
    frame = Frame(
        accumulate_sweeps([record.sweeps[0].load()]),
        record.stamp_ns,
        record.token,
        tuple(load_image(camera) for camera in record.cameras),
    )
    frame_figure(
        path,
        frame,
        record.boxes,
        record.box_up,
        record.lidar_points,
        index.map_mask(i),
        frame_name(index, i),
        machine_made=record.scene in machine_made_scenes(index.dataroot, index.version),
    )


def frame_figure(
    path: Path,
    frame: Frame,
    boxes: Boxes,
    up: np.ndarray,
    lidar_points: np.ndarray,
    map_masks: np.ndarray | None,
    title: str,
    machine_made: bool = False,
) -> None:
    """Write a picture: left the frame from above, in base_link; right its cameras with LiDAR points and boxes.

    boxes: the annotated ones, M. up: (M, 3), along their heights. lidar_points: (M,), as the annotation counts them.
    map_masks: bool (6, Y, X) on SEGMENTATION_GRID, None where there is no map. machine_made: a model made the boxes,
    which then are dashed. The folder is made where absent, and a
    reader sees the old file or the whole new one.
    """
    figure = Figure(figsize=(WIDTH_IN, 5.4) if frame.cameras else (7.2, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, fontsize=12, parse_math=False)
    if frame.cameras:
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.16])[0]
        _through_cameras(right, frame, boxes, tilted_corners(boxes.values, up), lidar_points, machine_made)
    else:
        left = figure
    _from_above(left.subplots(), frame, boxes, lidar_points, map_masks, machine_made)
    handles = _legend(boxes, map_masks is not None, machine_made)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        columnspacing=1.3,
    )
    save_figure(figure, Path(path))


def _from_above(
    axes: Axes, frame: Frame, boxes: Boxes, lidar_points: np.ndarray, map_masks: np.ndarray | None, machine_made: bool
) -> None:
    grid, empty = SEGMENTATION_GRID, lidar_points == 0
    text = f"{len(frame.points):,} LiDAR points, {len(boxes)} boxes"
    text += f", {empty.sum()} of them without a point" if empty.any() else ""
    if map_masks is not None:
        draw_map(axes, map_masks, grid, text, MAP_OPACITY)
    else:
        axes.grid(False)
        frame_axes(axes, grid, text + "; no map")
    draw_points(axes, frame.points, size=0.9)
    for chosen, linewidth in ((empty, THIN), (~empty, THICK)):
        shown = boxes_inside(Boxes(boxes.values[chosen], boxes.labels[chosen]), grid)
        draw_boxes(axes, shown.values, class_colours(shown.labels), linewidth, machine_made)
        draw_velocities(axes, shown.values)
    views = [on_paper(_view(camera)) for camera in frame.cameras]
    axes.add_collection(LineCollection(views, colors=INK, linewidths=0.5, alpha=0.6, zorder=4))


def _view(camera: CameraImage) -> np.ndarray:
    """Line (3, 2) in base_link [m]: from the left border of the view to the camera's place and to the right border."""
    height, width = camera.pixels.shape[:2]
    borders = np.array([[0, height / 2, 1], [width, height / 2, 1]])
    rays = borders @ np.linalg.inv(camera.image_from_camera).T @ camera.base_from_camera[:3, :3].T
    rays = VIEW_M * rays[:, :2] / np.linalg.norm(rays[:, :2], axis=1, keepdims=True)
    place = camera.base_from_camera[:2, 3]
    return np.stack([place + rays[0], place, place + rays[1]])


def _through_cameras(
    figure: SubFigure, frame: Frame, boxes: Boxes, solids: np.ndarray, lidar_points: np.ndarray, machine_made: bool
) -> None:
    """Draw the images with points and boxes; solids: (M, 8, 3), corners of the boxes in base_link [m]."""
    panels = figure.subplots(-(-len(frame.cameras) // 2), 2, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    place = {name: i for i, name in enumerate(PLACES)}
    cameras = sorted(frame.cameras, key=lambda camera: place.get(camera.name, len(place)))
    for axes, camera in zip(panels, cameras, strict=False):
        height, width = camera.pixels.shape[:2]
        axes.imshow(camera.pixels, extent=(0, width, height, 0))
        image_from_base = projection(camera.image_from_camera, camera.base_from_camera)
        _draw_points(axes, image_from_base, frame.points, (width, height))
        style = "dashed" if machine_made else "solid"
        _draw_boxes(
            axes, image_from_base, solids, class_colours(boxes.labels), lidar_points > 0, (width, height), style
        )
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.text(
            0.012,
            0.97,
            camera.name,
            transform=axes.transAxes,
            fontsize=8,
            color="white",
            va="top",
            parse_math=False,
            bbox={"facecolor": INK, "alpha": 0.65, "linewidth": 0, "pad": 2},
        )


def _draw_points(axes: Axes, image_from_base: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> None:
    """Draw LiDAR points on an image, near ones yellow, far ones violet."""
    pixels, depth = project(image_from_base, points)
    shown = inside(pixels, size)
    axes.scatter(
        *pixels[shown].T,
        s=0.6,
        c=depth[shown],
        cmap=RANGE_COLOURS,
        vmin=RANGES_M[0],
        vmax=RANGES_M[1],
        linewidths=0,
        alpha=0.8,
    )


def _draw_boxes(
    axes: Axes,
    image_from_base: np.ndarray,
    solids: np.ndarray,
    colours: list[str],
    touched: np.ndarray,
    size: tuple[int, int],
    style: str,
) -> None:
    """Draw edges, near boxes over far ones; the front of those touched by a LiDAR point, bool (M,), is tinted."""
    edges = visible_edges(image_from_base, solids, size)
    pixels, depth = project(image_from_base, solids)
    shown = np.flatnonzero(visible_boxes(edges))
    for i in shown[np.argsort(-depth[shown].mean(axis=1))]:
        lines = edges[i][np.isfinite(edges[i]).all(axis=(1, 2))]
        width = THICK if touched[i] else THIN
        axes.add_collection(LineCollection(lines, colors=colours[i], linewidths=width, linestyles=style))
        if touched[i] and np.isfinite(pixels[i, FRONT]).all():
            axes.add_collection(PolyCollection([pixels[i, FRONT]], facecolors=colours[i], alpha=0.22))


def _legend(boxes: Boxes, with_map: bool, machine_made: bool) -> list[Patch | Line2D]:
    lines = [
        Line2D([], [], color=INK, linewidth=width, label=label)
        for width, label in (
            (THIN, "view of a camera"),
            (THICK, "arrow: the way of 1 s"),
            (THIN, "thin: no LiDAR point"),
        )
    ]
    if machine_made:
        lines.append(Line2D([], [], color=INK, linewidth=THICK, linestyle="dashed", label="dashed: machine-made"))
    map_classes = map_swatches(MAP_OPACITY) if with_map else []
    return [Patch(color=INK, label="ego vehicle"), *lines, *class_swatches(boxes.labels), *map_classes]

"""Pictures of results: one frame from above, with what is true and what the student says."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vexkd_model.evaluation.palette import DETECTION_COLOURS, MAP_COLOURS, Rgb
from vexkd_model.files import whole_file
from vexkd_model.geometry.boxes import corners_bev
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes, Prediction

SHOWN_SCORE = 0.3  # detections below are what a precision-recall curve needs, not what a person wants to see
MAP_THRESHOLD = 0.5
POINT_COLOURS = LinearSegmentedColormap.from_list("height", ["#c5ccd5", "#7f8b9a", "#1f3a5f"])
POINT_HEIGHTS_M = (-0.3, 2.5)  # from the road, faint, to the roofs of cars, dark
EGO = np.array([[1.0, 0.0, 0.8, 4.1, 1.8, 1.6, 0.0]])  # base_link is the middle of the rear axle
INK, FAINT, TRUTH = "#20262e", "#c3cad3", "#2e9e44"


def bev_figure(path: Path, points: np.ndarray, truth: Boxes | None, prediction: Prediction,
               map_truth: np.ndarray | None, title: str) -> None:
    """Write a PNG of one frame from above, x forward to the right and y left upwards, all in base_link.

    points: (N, ≥ 3) [m]. truth: the annotated boxes. prediction: its boxes with scores of at least SHOWN_SCORE and its
    map, whose grid is the picture's range. map_truth: bool (6, Y, X) on that grid. The folder is made where absent, and
    a reader sees the old file or the whole new one.
    """
    grid = prediction.map_grid
    found = _chosen(prediction.boxes, (prediction.scores >= SHOWN_SCORE) & _inside(prediction.boxes, grid))
    truth = None if truth is None else _chosen(truth, _inside(truth, grid))
    figure = Figure(figsize=(10.4, 8.1) if map_truth is not None else (12.4, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, fontsize=13, parse_math=False)
    if map_truth is not None:
        panels = figure.subplot_mosaic([["scene", "map"], ["scene", "map truth"]], width_ratios=[2.1, 1])
        _draw_map(panels["map truth"], map_truth.astype(bool), grid, "true map")
    else:
        panels = figure.subplot_mosaic([["scene", "map"]])
    _draw_map(panels["map"], prediction.map_probabilities >= MAP_THRESHOLD, grid, "predicted map")
    if map_truth is not None:
        panels["map"].set_xlabel("")  # the axis below it is the same
    _draw_scene(panels["scene"], points, truth, found, grid)
    figure.legend(handles=_legend(truth, found), loc="outside lower center", ncols=6, frameon=False, fontsize=9,
                  labelcolor=INK)
    _save(figure, Path(path))


def _inside(boxes: Boxes, grid: BevGrid) -> np.ndarray:
    """bool (M,): which centres lie on the grid."""
    x, y = boxes.values[:, 0], boxes.values[:, 1]
    return (x >= grid.x_min) & (x < grid.x_max) & (y >= grid.y_min) & (y < grid.y_max)


def _chosen(boxes: Boxes, mask: np.ndarray) -> Boxes:
    return Boxes(boxes.values[mask], boxes.labels[mask])


def _draw_scene(axes: Axes, points: np.ndarray, truth: Boxes | None, found: Boxes, grid: BevGrid) -> None:
    axes.grid(color="#e8ebef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.scatter(points[:, 0], points[:, 1], s=0.7, c=points[:, 2], cmap=POINT_COLOURS, vmin=POINT_HEIGHTS_M[0],
                 vmax=POINT_HEIGHTS_M[1], linewidths=0, zorder=2)
    if truth is not None and len(truth):
        axes.add_collection(PolyCollection(corners_bev(truth.values), facecolors=TRUTH + "38", zorder=3))
        _draw_boxes(axes, truth.values, [TRUTH] * len(truth), linewidth=0.9)
    if len(found):
        colours = [_hex(DETECTION_COLOURS[DETECTION_CLASSES[label]]) for label in found.labels]
        _draw_boxes(axes, found.values, colours, linewidth=1.5)
    of_truth = "" if truth is None else f", {len(truth)} annotated"
    _frame(axes, grid, f"{len(found)} detections with score ≥ {SHOWN_SCORE}{of_truth}")


def _draw_boxes(axes: Axes, values: np.ndarray, colours: Sequence[str], linewidth: float) -> None:
    """Outlines with a line from the centre out over the front."""
    for lines in (LineCollection(_headings(values)), PolyCollection(corners_bev(values), facecolors="none")):
        lines.set(edgecolors=colours, linewidths=linewidth, zorder=4)
        axes.add_collection(lines)


def _headings(values: np.ndarray) -> np.ndarray:
    """(M, 2, 2) lines from the centres to a little beyond the fronts."""
    reach = values[:, 3] / 2 + np.clip(0.35 * values[:, 3], 0.4, 1.2)
    tip = values[:, :2] + reach[:, None] * np.stack([np.cos(values[:, 6]), np.sin(values[:, 6])], axis=1)
    return np.stack([values[:, :2], tip], axis=1)


def _draw_map(axes: Axes, masks: np.ndarray, grid: BevGrid, title: str) -> None:
    """bool (6, Y, X); later classes of MAP_CLASSES are painted over earlier ones, lines over areas."""
    image = np.full((*masks.shape[1:], 3), 255, np.uint8)
    for name, mask in zip(MAP_CLASSES, masks, strict=True):
        image[mask] = MAP_COLOURS[name]
    axes.imshow(image, origin="lower", extent=(grid.x_min, grid.x_max, grid.y_min, grid.y_max), interpolation="nearest")
    axes.grid(False)  # explicit, as below: importing the devkit's map API switches matplotlib's style for everybody
    _frame(axes, grid, title)


def _frame(axes: Axes, grid: BevGrid, title: str) -> None:
    """Equal metre axes over the grid, and the ego vehicle."""
    axes.add_collection(PolyCollection(corners_bev(EGO), facecolors=INK, edgecolors="white", linewidths=0.6, zorder=5))
    axes.set(xlim=(grid.x_min, grid.x_max), ylim=(grid.y_min, grid.y_max), aspect="equal")
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel("x forward [m]", fontsize=8, color=INK)
    axes.set_ylabel("y left [m]", fontsize=8, color=INK)
    axes.tick_params(labelsize=8, length=0, color=FAINT, labelcolor=INK)
    axes.spines[:].set_color(FAINT)


def _legend(truth: Boxes | None, found: Boxes) -> list[Patch | Line2D]:
    """The ego vehicle, ground truth, the classes that are shown, and all map classes."""
    handles: list[Patch | Line2D] = [Patch(color=INK, label="ego vehicle")]
    if truth is not None:
        handles.append(Patch(facecolor=TRUTH + "38", edgecolor=TRUTH, label="ground truth"))
    classes = [DETECTION_CLASSES[label] for label in np.unique(found.labels)]
    handles += _swatches(((name, DETECTION_COLOURS) for name in classes), filled=False)
    return handles + _swatches(((name, MAP_COLOURS) for name in MAP_CLASSES), filled=True)


def _swatches(entries: Iterable[tuple[str, dict[str, Rgb]]], filled: bool) -> list[Patch]:
    return [Patch(facecolor=_hex(colours[name]) if filled else "none", edgecolor=_hex(colours[name]), linewidth=1.6,
                  label=name.replace("_", " ")) for name, colours in entries]


def _hex(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=130, facecolor="white")

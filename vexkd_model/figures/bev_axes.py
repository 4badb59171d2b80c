"""Drawing of a bird's-eye view on matplotlib's axes: base_link, x (forward) up, y to the left."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch

from vexkd_model.errors import UserError
from vexkd_model.figures.palette import DETECTION_COLOURS, MAP_COLOURS, Rgb
from vexkd_model.files import atomic_file
from vexkd_model.geometry.boxes import corners_bev
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes

POINT_COLOURS = LinearSegmentedColormap.from_list("height", ["#c5ccd5", "#7f8b9a", "#1f3a5f"])
POINT_HEIGHTS_M = (-0.3, 2.5)  # from the road, faint, to the roofs of cars, dark
EGO = np.array([[1.0, 0.0, 0.8, 4.1, 1.8, 1.6, 0.0]])  # base_link is the middle of the rear axle
VALUE_COLOURS = "viridis"  # reads the same to colour-blind eyes and in print
BRIGHT = 99.5  # percentile of the cells that are not 0
INK, FAINT = "#20262e", "#c3cad3"
WIDTH_IN = 9.0  # of a figure: at 900 pixels, as a README shows it, a point is 1.4 of them
# What would differ from one writing of the same figure to the next, by format.
METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
SHOWN_SPEED = 0.5  # of an arrow [m/s]; slower is the noise of an annotation


def boxes_inside(boxes: Boxes, grid: BevGrid) -> Boxes:
    """Select the boxes whose centres lie on the grid."""
    x, y = boxes.values[:, 0], boxes.values[:, 1]
    inside = (x >= grid.x_min) & (x < grid.x_max) & (y >= grid.y_min) & (y < grid.y_max)
    return Boxes(boxes.values[inside], boxes.labels[inside])


def draw_points(axes: Axes, points: np.ndarray, size: float = 0.7) -> None:
    """Draw points (N, ≥ 3) [m], the darker the higher; size: of a dot [pt²]."""
    axes.scatter(
        points[:, 1],
        points[:, 0],
        s=size,
        c=points[:, 2],
        cmap=POINT_COLOURS,
        vmin=POINT_HEIGHTS_M[0],
        vmax=POINT_HEIGHTS_M[1],
        linewidths=0,
        zorder=2,
        rasterized=True,
    )


def draw_boxes(axes: Axes, values: np.ndarray, colours: Sequence[str], linewidth: float, dashed: bool = False) -> None:
    """Draw outlines of boxes (M, ≥ 7), with a line from the centre out over the front."""
    headings, outlines = list(on_paper(_headings(values))), list(outlines_of(values))
    for lines in (LineCollection(headings), PolyCollection(outlines, facecolors="none")):
        lines.set(edgecolors=colours, linewidths=linewidth, linestyles="dashed" if dashed else "solid", zorder=4)
        axes.add_collection(lines)


def on_paper(places: np.ndarray) -> np.ndarray:
    """Exchange x and y of places (…, 2) in base_link: the paper's first axis is y, which `frame_axes` turns round."""
    return places[..., ::-1]


def outlines_of(values: np.ndarray) -> np.ndarray:
    """Corners (M, 4, 2) of boxes (M, ≥ 7) as they are drawn."""
    return on_paper(corners_bev(values))


def _headings(values: np.ndarray) -> np.ndarray:
    """Lines (M, 2, 2) from the centres to a little beyond the fronts."""
    reach = values[:, 3] / 2 + np.clip(0.35 * values[:, 3], 0.4, 1.2)
    tip = values[:, :2] + reach[:, None] * np.stack([np.cos(values[:, 6]), np.sin(values[:, 6])], axis=1)
    return np.stack([values[:, :2], tip], axis=1)


def draw_velocities(axes: Axes, values: np.ndarray) -> None:
    """Draw arrows from the centres of boxes (M, 9) to their places a second later; none for unknown velocities."""
    moving = values[np.hypot(values[:, 7], values[:, 8]) >= SHOWN_SPEED]
    axes.quiver(
        *moving[:, [1, 0, 8, 7]].T,
        color=INK,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.0022,
        headwidth=4,
        headlength=4.5,
        headaxislength=4,
        zorder=5,
    )


def draw_map(axes: Axes, masks: np.ndarray, grid: BevGrid, title: str, opacity: float = 1.0) -> None:
    """Draw map masks, bool (6, Y, X), and the axes; later classes of MAP_CLASSES cover earlier ones, lines areas."""
    paint_map(axes, masks, grid, opacity)
    frame_axes(axes, grid, title)


def paint_map(axes: Axes, masks: np.ndarray, grid: BevGrid, opacity: float = 1.0) -> None:
    """Draw map masks, bool (6, Y, X), alone, on axes with a range of their own."""
    image = np.full((*masks.shape[1:], 3), 255, np.uint8)
    for name, mask in zip(MAP_CLASSES, masks, strict=True):
        image[mask] = MAP_COLOURS[name]
    axes.imshow(image.swapaxes(0, 1), origin="lower", extent=_borders(grid), interpolation="nearest", alpha=opacity)
    axes.grid(False)  # explicit, as below: importing the devkit's map API switches matplotlib's style for everybody


def draw_values(axes: Axes, values: np.ndarray, grid: BevGrid, title: str, least: float, most: float) -> AxesImage:
    """Draw a value in each cell, (Y, X), from dark at `least` to bright at `most` and above."""
    image = axes.imshow(
        values.T,
        origin="lower",
        extent=_borders(grid),
        interpolation="nearest",
        cmap=VALUE_COLOURS,
        vmin=least,
        vmax=most,
    )
    axes.grid(False)
    frame_axes(axes, grid, title)
    return image


def bright_end(values: np.ndarray) -> float:
    """Choose the upper end of the colours of values ≥ 0, so that a few outliers do not darken all other cells."""
    filled = values[values > 0]
    return float(np.percentile(filled, BRIGHT)) if len(filled) else 1.0


def leave_empty(axes: Axes, text: str) -> None:
    """Write a text in place of a picture."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=INK)


def _borders(grid: BevGrid) -> tuple[float, float, float, float]:
    return grid.y_min, grid.y_max, grid.x_min, grid.x_max


def frame_axes(axes: Axes, grid: BevGrid, title: str) -> None:
    """Set equal metre axes over the grid, and draw the ego vehicle."""
    ego = PolyCollection(list(outlines_of(EGO)), facecolors=INK, edgecolors="white", linewidths=0.6, zorder=5)
    axes.add_collection(ego)
    axes.set(xlim=(grid.y_max, grid.y_min), ylim=(grid.x_min, grid.x_max), aspect="equal")
    axes.set_title(title, fontsize=9.5, color=INK)
    axes.set_xlabel("y, left [m]", fontsize=8, color=INK)
    axes.set_ylabel("x, forward [m]", fontsize=8, color=INK)
    axes.tick_params(labelsize=8, length=0, color=FAINT, labelcolor=INK)
    axes.spines[:].set_color(FAINT)


def class_colours(labels: np.ndarray) -> list[str]:
    """Look up the palette's colour of each of labels (M,)."""
    return [hexadecimal(DETECTION_COLOURS[DETECTION_CLASSES[label]]) for label in labels]


def class_swatches(labels: np.ndarray) -> list[Patch]:
    """Make legend entries of the detection classes that occur among labels (M,)."""
    shown = np.unique(labels)
    return [
        Patch(facecolor="none", edgecolor=colour, linewidth=1.6, label=DETECTION_CLASSES[label].replace("_", " "))
        for label, colour in zip(shown, class_colours(shown), strict=True)
    ]


def map_swatches(opacity: float = 1.0) -> list[Patch]:
    """Make legend entries of all map classes."""
    return [
        Patch(color=hexadecimal(MAP_COLOURS[name]), alpha=opacity, label=name.replace("_", " ")) for name in MAP_CLASSES
    ]


def hexadecimal(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, atomically; the same figure gives the same bytes.

    UserError for a suffix of another format.
    """
    check_format(path)
    kind = path.suffix.lower().removeprefix(".")
    with atomic_file(path) as partial, matplotlib.rc_context({"svg.hashsalt": "vexkd"}):
        figure.savefig(partial, format=kind, dpi=130, facecolor="white", metadata=METADATA[kind])


def check_format(path: Path) -> None:
    """Raise UserError unless the suffix is of a format that figures are written in."""
    if path.suffix.lower().removeprefix(".") not in METADATA:
        raise UserError(
            f"{path}: no format of a figure; give a name that ends in {', '.join(f'.{k}' for k in METADATA)}"
        )

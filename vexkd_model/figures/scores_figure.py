"""Figure of the evaluations of several models (`vexkd compare`): classes, curves, and errors by distance and speed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vexkd_model.evaluation.details import Band, Details
from vexkd_model.evaluation.precision import RECALLS
from vexkd_model.evaluation.split import SplitResult
from vexkd_model.figures.bev_axes import FAINT, INK, WIDTH_IN, save_figure
from vexkd_model.figures.palette import SERIES_COLOURS
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES

MEASURES: dict[str, Callable[[Band], float | None]] = {
    "found within 2 m [%]": lambda band: 100 * band.found / band.truth if band.truth else None,
    "heading error [°]": lambda band: None if band.heading is None else float(np.degrees(band.heading)),
    "velocity error [m/s]": lambda band: band.velocity,
}


def plot_scores(path: Path, results: Mapping[str, SplitResult]) -> None:
    """Write a picture of evaluations on the same data, by name of the model."""
    save_figure(scores_figure(results), path)


def scores_figure(results: Mapping[str, SplitResult]) -> Figure:
    """Draw bars of the classes, then curves and errors of the models whose evaluation holds them."""
    ap = {name: result.detection.class_ap for name, result in results.items() if result.detection}
    iou = {name: result.maps.class_iou for name, result in results.items() if result.maps}
    details = {name: result.details for name, result in results.items() if result.details}
    colours = {name: SERIES_COLOURS[i % len(SERIES_COLOURS)] for i, name in enumerate(results)}
    parts: list[tuple[float, Callable[[SubFigure], None]]] = []
    if ap:
        parts.append((2.6, lambda part: _draw_bars(part.subplots(), "AP", DETECTION_CLASSES, ap, colours)))
    if details:
        parts += [
            (4.4, lambda part: _draw_curves(part, details, colours)),
            (4.6, lambda part: _draw_bands(part, details, colours)),
        ]
    if iou:
        parts.append((2.6, lambda part: _draw_bars(part.subplots(), "IoU", MAP_CLASSES, iou, colours)))
    heights = [height for height, _ in parts] or [1.0]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (_, draw) in zip(rows, parts, strict=False):
        draw(part)
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9.5, labelcolor=INK)
    return figure


def _draw_bars(
    axes: Axes,
    measure: str,
    classes: Sequence[str],
    values: Mapping[str, Mapping[str, float]],
    colours: Mapping[str, str],
) -> None:
    width = 0.8 / len(values)
    for i, (name, of_class) in enumerate(values.items()):
        places = np.arange(len(classes)) - 0.4 + (i + 0.5) * width
        axes.bar(places, [of_class[one] for one in classes], width, color=colours[name], label=name)
    axes.set_xticks(range(len(classes)), [name.replace("_", "\n") for name in classes])
    axes.set_ylabel(measure, fontsize=9, color=INK)
    _finish(axes)
    axes.grid(visible=False, axis="x")


def _draw_curves(part: SubFigure, details: Mapping[str, Details], colours: Mapping[str, str]) -> None:
    part.suptitle("precision over recall, matched within 2 m", fontsize=10.5, color=INK)
    panels = part.subplots(2, len(DETECTION_CLASSES) // 2, sharex=True, sharey=True).ravel()
    for axes, name in zip(panels, DETECTION_CLASSES, strict=True):
        for model, of_model in details.items():
            axes.plot(RECALLS, of_model.precision[name], color=colours[model], linewidth=1.5, label=model)
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.set_title(name.replace("_", " "), fontsize=9, color=INK)
        _finish(axes)


def _draw_bands(part: SubFigure, details: Mapping[str, Details], colours: Mapping[str, str]) -> None:
    part.suptitle("of boxes with a front, by distance and by speed", fontsize=10.5, color=INK)
    panels = part.subplots(2, len(MEASURES), sharey="col")
    kinds = (("by_distance", "distance [m]"), ("by_speed", "speed [m/s]"))
    for row, (kind, axis) in zip(panels, kinds, strict=True):
        for axes, (label, measure) in zip(row, MEASURES.items(), strict=True):
            for model, of_model in details.items():
                values = [measure(band) for band in getattr(of_model, kind)]
                shown = [np.nan if value is None else value for value in values]
                axes.plot(range(len(shown)), shown, color=colours[model], marker="o", markersize=4, linewidth=1.5)
            bands = getattr(next(iter(details.values())), kind)
            axes.set_xticks(range(len(bands)), [_named(band) for band in bands])
            axes.set_xlabel(axis, fontsize=9, color=INK)
            axes.set_ylabel(label, fontsize=9, color=INK)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            _finish(axes)
    for axes in panels.ravel():
        axes.set_ylim(bottom=0)  # only now: it ends the scaling to what is drawn later


def _named(band: Band) -> str:
    return f"> {band.low:g}" if band.high is None else f"{band.low:g}–{band.high:g}"


def _finish(axes: Axes) -> None:
    axes.grid(color="#e8ebef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, color=FAINT, labelcolor=INK)
    axes.spines[:].set_color(FAINT)

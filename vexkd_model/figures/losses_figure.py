"""Figure of the loss curves of runs, the sum and every term (`vexkd plot losses`)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vexkd_model.figures.bev_axes import FAINT, INK, WIDTH_IN, save_figure
from vexkd_model.figures.palette import SERIES_COLOURS
from vexkd_model.training.read_losses import SUM, TERM, Curve, is_of_distillation, read_losses

COLUMNS = 3
SMOOTHED_SHARE = 0.04  # of a curve, over which it is averaged


def plot_losses(path: Path, runs: Sequence[Path]) -> None:
    """Write a picture of the losses that these runs have logged so far."""
    save_figure(losses_figure(dict(zip(short_names(runs), map(read_losses, runs), strict=True))), path)


def losses_figure(losses: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Draw the sum first, then a small panel for each term that any run has, those of distillation last.

    losses: curves by name, by run.
    """
    terms = sorted(
        {name for of_run in losses.values() for name in of_run} - {SUM},
        key=lambda name: (is_of_distillation(name), name),
    )
    rows = -(-(1 + len(terms)) // COLUMNS)
    figure = Figure(figsize=(WIDTH_IN, 2.4 * rows + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).ravel()
    for axes, name in zip(panels, [SUM, *terms], strict=False):
        axes.set_title("sum" if name == SUM else name.removeprefix(TERM).replace("_", " "), fontsize=10, color=INK)
        for i, of_run in enumerate(losses.values()):
            if name in of_run:
                colour, dashes = SERIES_COLOURS[i % len(SERIES_COLOURS)], ("-", "--")[i // len(SERIES_COLOURS) % 2]
                axes.plot(*of_run[name], color=colour, alpha=0.25, linewidth=0.8)
                axes.plot(
                    *smoothed(of_run[name]), color=colour, linestyle=dashes, linewidth=1.5, marker=".", markevery=[-1]
                )  # a curve of one value is seen, too
        lowest = min((of_run[name].values.min() for of_run in losses.values() if name in of_run), default=0.0)
        if lowest >= 0:  # what teacher labels add may be negative
            axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8, color=FAINT, labelcolor=INK, labelbottom=True)
        axes.grid(color="#e8ebef", linewidth=0.6)
        axes.spines[:].set_color(FAINT)
    for axes in panels[1 + len(terms) :]:
        axes.set_axis_off()
    figure.supxlabel("step", fontsize=9, color=INK)
    figure.supylabel("loss, weighted", fontsize=9, color=INK)
    bold = [line for line in panels[0].lines if line.get_alpha() is None]
    figure.legend(bold, losses, loc="outside upper center", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def smoothed(curve: Curve) -> Curve:
    """Average over a window around each step, which ends where the curve does."""
    reach = int(SMOOTHED_SHARE * len(curve.steps) / 2)
    window = np.ones(2 * reach + 1)
    count = np.convolve(np.ones(len(curve.steps)), window, "full")
    total = np.convolve(curve.values, window, "full")
    inner = slice(reach, reach + len(curve.steps))
    return Curve(curve.steps, total[inner] / count[inner])


def short_names(runs: Sequence[Path]) -> list[str]:
    """Name runs for a legend: their paths without the folder that all of them lie in."""
    places = [run.resolve() for run in runs]
    common = os.path.commonpath([place.parent for place in places])
    return [str(place.relative_to(common)) for place in places]

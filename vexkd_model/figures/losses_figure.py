"""`vexkd plot losses`: loss curves of runs, the sum and every term."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vexkd_model.errors import UserError
from vexkd_model.figures.bev_axes import FAINT, INK, save_png
from vexkd_model.figures.palette import SERIES_COLOURS
from vexkd_model.figures.run_names import short_names

LOG, TABLE = "log", "metrics.csv"
SUM, TERM = "loss", "loss/"
OF_DISTILLATION = ("loss/distill_", "loss/mask_", "loss/relation", "loss/response_", "loss/teacher_labels")
COLUMNS = 4
SMOOTHED_SHARE = 0.04  # of a curve, over which it is averaged


class Curve(NamedTuple):
    """Values at steps, both (N,), steps ascending."""

    steps: np.ndarray
    values: np.ndarray


def plot_losses(path: Path, runs: Sequence[Path]) -> None:
    """Write a PNG of the losses that these runs have logged so far."""
    save_png(losses_figure(dict(zip(short_names(runs), map(read_losses, runs), strict=True))), path)


def read_losses(run: Path) -> dict[str, Curve]:
    """The logged losses of a run by name, `loss` the sum; where a resumed training repeats steps, its own count."""
    values: dict[str, dict[int, float]] = {}
    for table in sorted((run / LOG).glob(f"version_*/{TABLE}"), key=_version):
        for step, name, value in _logged(table):
            values.setdefault(name, {})[step] = value
    if not values:
        raise UserError(f"{run / LOG}: no losses there; `vexkd train` and `vexkd distill` log them from step 10 on")
    return {name: Curve(np.array(sorted(at)), np.array([at[step] for step in sorted(at)]))
            for name, at in values.items()}  # fmt: skip


def _logged(table: Path) -> list[tuple[int, str, float]]:
    """Step, name and value of each loss, in the order of the file."""
    try:
        with table.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["step"]]  # a training may be writing the last one
        return [(int(row["step"]), name, float(row[name])) for row in rows for name in row
                if row[name] and (name == SUM or name.startswith(TERM))]
    except (ValueError, KeyError, AttributeError, csv.Error):
        raise UserError(f"{table}: damaged; mend or remove the line that is not of numbers") from None


def _version(table: Path) -> int:
    return int(table.parent.name.removeprefix("version_"))


def losses_figure(losses: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """losses: curves by name, by run. The sum first, then a small panel for each term that any run has, those of
    distillation last."""
    terms = sorted({name for of_run in losses.values() for name in of_run} - {SUM},
                   key=lambda name: (name.startswith(OF_DISTILLATION), name))
    rows = -(-(1 + len(terms)) // COLUMNS)
    figure = Figure(figsize=(3.3 * COLUMNS, 2.5 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).ravel()
    for axes, name in zip(panels, [SUM, *terms], strict=False):
        axes.set_title("sum" if name == SUM else name.removeprefix(TERM).replace("_", " "), fontsize=10, color=INK)
        for i, of_run in enumerate(losses.values()):
            if name in of_run:
                colour, dashes = SERIES_COLOURS[i % len(SERIES_COLOURS)], ("-", "--")[i // len(SERIES_COLOURS) % 2]
                axes.plot(*of_run[name], color=colour, alpha=0.25, linewidth=0.8)
                axes.plot(*smoothed(of_run[name]), color=colour, linestyle=dashes, linewidth=1.5,
                          marker=".", markevery=[-1])  # a curve of one value is seen, too
        lowest = min((of_run[name].values.min() for of_run in losses.values() if name in of_run), default=0.0)
        if lowest >= 0:  # what teacher labels add may be negative
            axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8, color=FAINT, labelcolor=INK, labelbottom=True)
        axes.grid(color="#e8ebef", linewidth=0.6)
        axes.spines[:].set_color(FAINT)
    for axes in panels[1 + len(terms):]:
        axes.set_axis_off()
    figure.supxlabel("step", fontsize=9, color=INK)
    figure.supylabel("loss, weighted", fontsize=9, color=INK)
    bold = [line for line in panels[0].lines if line.get_alpha() is None]
    figure.legend(bold, losses, loc="outside upper center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def smoothed(curve: Curve) -> Curve:
    """The mean over a window around each step, which ends where the curve does."""
    reach = int(SMOOTHED_SHARE * len(curve.steps) / 2)
    window = np.ones(2 * reach + 1)
    count = np.convolve(np.ones(len(curve.steps)), window, "full")
    total = np.convolve(curve.values, window, "full")
    inner = slice(reach, reach + len(curve.steps))
    return Curve(curve.steps, total[inner] / count[inner])

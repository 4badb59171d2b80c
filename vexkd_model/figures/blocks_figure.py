"""Figure of mAP against the number of blocks that draw a mask (`vexkd plot blocks`), from an ablation's table."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vexkd_model.errors import UserError
from vexkd_model.figures.bev_axes import FAINT, INK, save_figure
from vexkd_model.figures.palette import SERIES_COLOURS

ROW = re.compile(r"(.*?)_?blocks_(\d+)")  # as the plan config/ablation/blocks.yaml names them
PLAN = "config/ablation/blocks.yaml"


class Measured(NamedTuple):
    """Mean mAP over seeds; deviation is their sample standard deviation, 0 of a single one."""

    mean: float
    deviation: float
    seeds: int


class BlocksTable(NamedTuple):
    """Table of an ablation over blocks.

    measured: by number of blocks, by what stands before it in the rows' names. baseline: the row that the others are
    compared with, and its name; None without.
    """

    measured: dict[str, dict[int, Measured]]
    baseline: tuple[str, Measured] | None


def plot_blocks(path: Path, table: Path) -> None:
    """Write a picture of the table.csv that `vexkd ablate` has written."""
    save_figure(blocks_figure(read_blocks(table)), path)


def read_blocks(table: Path) -> BlocksTable:
    """Read a table, without the rows that lack a number of blocks or mAP; UserError where nothing remains."""
    rows = _read(table)
    try:
        of_row = {name: _measured(row) for name, row in rows.items()}
    except (ValueError, TypeError):
        raise UserError(f"{table}: damaged; `vexkd ablate` writes it again") from None
    measured: dict[str, dict[int, Measured]] = {}
    for name, figures in of_row.items():
        if found := ROW.fullmatch(name):
            measured.setdefault(found[1], {})[int(found[2])] = figures
    if not measured:
        raise UserError(f"{table}: no row with mAP is named …blocks_N; give the table of {PLAN}")
    # Only the baseline itself has a mean and no difference to it.
    baseline = next(((name, of_row[name]) for name, row in rows.items() if row.get("mAP_difference") == ""), None)
    return BlocksTable({name: dict(sorted(of.items())) for name, of in measured.items()}, baseline)


def _read(table: Path) -> dict[str, dict[str, str]]:
    """Read the rows with mAP, by name."""
    try:
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise UserError(f"{table}: cannot be read as a table; `vexkd ablate {PLAN}` writes a table.csv") from None
    for column in ("row", "seeds_done", "mAP_mean", "mAP_std"):
        if rows and rows[0].get(column) is None:
            raise UserError(f"{table}: {column}: no such column; give a table.csv of `vexkd ablate`")
    return {row["row"]: row for row in rows if row["mAP_mean"]}


def _measured(row: dict[str, str]) -> Measured:
    return Measured(float(row["mAP_mean"]), float(row["mAP_std"] or 0), int(row["seeds_done"]))


def blocks_figure(table: BlocksTable) -> Figure:
    """Draw a curve of each series over its numbers of blocks, and the baseline as a band."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    if table.baseline is not None:
        name, of = table.baseline
        axes.axhline(of.mean, color=INK, linestyle="--", linewidth=1.1, label=f"{name}, {_seeds([of])}")
        axes.axhspan(of.mean - of.deviation, of.mean + of.deviation, color=INK, alpha=0.08, linewidth=0)
    for (name, of_blocks), colour in zip(table.measured.items(), SERIES_COLOURS, strict=False):
        found = list(of_blocks.values())
        axes.errorbar(
            list(of_blocks),
            [of.mean for of in found],
            [of.deviation for of in found],
            color=colour,
            marker="o",
            markersize=5,
            linewidth=1.5,
            capsize=3,
            label=f"{name or 'distilled'}, {_seeds(found)}",
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("blocks of deformable attention that draw a mask", fontsize=9, color=INK)
    axes.set_ylabel("mAP, mean ± standard deviation over seeds", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, color=FAINT, labelcolor=INK)
    axes.grid(color="#e8ebef", linewidth=0.6)
    axes.spines[:].set_color(FAINT)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _seeds(measured: Sequence[Measured]) -> str:
    """Count seeds for a legend: "3 seeds", or "1 … 3 seeds" where the points differ."""
    counts = sorted({of.seeds for of in measured})
    return " … ".join(map(str, counts[:1] + counts[1:][-1:])) + (" seed" if counts == [1] else " seeds")

"""Figures of a study: learning curves, scores with their spread, and AP of each class against the baseline."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vexkd_model.ablation.run_record import Figures, LossCurve
from vexkd_model.ablation.study import Study, StudyRow, compare
from vexkd_model.ablation.table import METRICS, spread
from vexkd_model.figures.bev_axes import FAINT, INK, WIDTH_IN, save_figure
from vexkd_model.figures.palette import SERIES_COLOURS
from vexkd_model.training.read_losses import is_of_distillation

COLUMNS = 3
# A reader's own matplotlibrc changes no picture.
STYLE = ["default", {"font.family": "DejaVu Sans", "svg.hashsalt": "vexkd"}]


def plot_study(folder: Path, study: Study) -> list[Path]:
    """Write NAME_curves.png, NAME_scores.png and NAME_class_ap.png, as far as the study has data for them."""
    kinds: dict[str, Callable[[Study], Figure | None]] = {
        "curves": curves_figure,
        "scores": scores_figure,
        "class_ap": class_ap_figure,
    }
    written = []
    with matplotlib.style.context(STYLE):
        for kind, draw in kinds.items():
            if (figure := draw(study)) is not None:
                written.append(folder / f"{study.name}_{kind}.png")
                save_figure(figure, written[-1])
    return written


def curves_figure(study: Study) -> Figure | None:
    """Draw a panel per row: task losses of each seed, the sum with distillation dashed, the baseline in grey."""
    curves = {
        row.name: [
            record.training.loss for record in row.records.values() if record.training.loss and record.dropped is None
        ]
        for row in study.rows
    }
    drawn = {name: of_row for name, of_row in curves.items() if of_row}
    if not drawn:
        return None
    figure, panels = _panels(len(drawn))
    of_baseline = drawn.get(study.baseline.name, []) if study.baseline else []
    for axes, (name, of_row) in zip(panels, drawn.items(), strict=False):
        for loss in of_baseline:
            axes.plot(loss.steps, task_loss(loss), color=FAINT, linewidth=0.8)
        for i, loss in enumerate(of_row):
            colour = SERIES_COLOURS[i % len(SERIES_COLOURS)]
            axes.plot(loss.steps, task_loss(loss), color=colour, linewidth=1.2)
            if any(map(is_of_distillation, loss.terms)):
                axes.plot(loss.steps, loss.total, color=colour, linewidth=0.8, linestyle="--")
        axes.set_title(name, fontsize=10, color=INK)
    settled = [task_loss(loss)[len(loss.steps) // 10 :].max() for of_row in drawn.values() for loss in of_row]
    panels[0].set_ylim(0, 1.1 * max(settled) or 1)  # the first steps would hide all others
    figure.supxlabel("optimiser step", fontsize=9, color=INK)
    figure.supylabel("loss (dashed: with distillation)", fontsize=9, color=INK)
    return figure


def task_loss(loss: LossCurve) -> np.ndarray:
    """Sum the terms that every row has, those of the tasks, (N,)."""
    terms = [values for name, values in loss.terms.items() if not is_of_distillation(name)]
    return np.array([[value or 0.0 for value in values] for values in terms] or [loss.total]).sum(0)


def scores_figure(study: Study) -> Figure | None:
    """Draw a panel per metric and a bar per row: mean over seeds, ± their sample standard deviation."""
    rows = [row for row in study.rows if row.records]
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, metric in zip(figure.subplots(1, len(METRICS), sharey=True), METRICS, strict=True):
        for i, row in enumerate(rows):
            found = spread(list(row.values(lambda figures, name=metric: getattr(figures, name)).values()))
            if found:
                axes.barh(
                    i,
                    found.mean,
                    xerr=found.deviation,
                    height=0.7,
                    capsize=3,
                    ecolor=INK,
                    color=SERIES_COLOURS[5 if row is study.baseline else 0],
                )
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_title(metric, fontsize=10, color=INK)
        _finish(axes, "x")
    figure.axes[0].invert_yaxis()
    figure.supxlabel("mean ± standard deviation over seeds", fontsize=9, color=INK)
    return figure


def class_ap_figure(study: Study) -> Figure | None:
    """Draw a group of bars per class and a bar per row: AP minus the baseline's, ± its standard error."""
    baseline = study.baseline
    if baseline is None:
        return None
    classes = _classes(baseline)
    rows = [row for row in study.rows if row is not baseline and _classes(row)]
    if not classes or not rows:
        return None
    figure = Figure(figsize=(WIDTH_IN, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes, width = figure.subplots(), 0.8 / len(rows)
    for i, row in enumerate(rows):
        found = [compare(row.values(_ap(name)), baseline.values(_ap(name))) for name in classes]
        at = [j - 0.4 + (i + 0.5) * width for j in range(len(classes))]
        axes.bar(
            at,
            [one.value if one else np.nan for one in found],
            width,
            label=row.name,
            capsize=1.5,
            ecolor=INK,
            yerr=[(one and one.error) or 0.0 for one in found],
            error_kw={"elinewidth": 0.7},
            color=SERIES_COLOURS[i % len(SERIES_COLOURS)],
            hatch="///" * (i // len(SERIES_COLOURS)),
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(classes)), [name.replace("_", "\n") for name in classes])
    axes.set_ylabel(f"AP − {baseline.name}, ± standard error", fontsize=9, color=INK)
    _finish(axes, "y")
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _classes(row: StudyRow) -> list[str]:
    return sorted({name for record in row.records.values() for name in record.figures.AP or {}})


def _ap(name: str) -> Callable[[Figures], float | None]:
    return lambda figures: (figures.AP or {}).get(name)


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    rows = -(-count // COLUMNS)
    figure = Figure(figsize=(WIDTH_IN, 2.3 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in panels[:count]:
        _finish(axes, "both")
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, list(panels)


def _finish(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    axes.grid(axis=grid, color="#e8ebef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, color=FAINT, labelcolor=INK)
    axes.spines[:].set_color(FAINT)

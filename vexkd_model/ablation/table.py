"""Tables of an ablation: mean and spread of each figure over seeds, and its difference to a baseline."""

import csv
import io
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vexkd_model.ablation.commands import Run, runs_of
from vexkd_model.ablation.make_record import figures_of
from vexkd_model.ablation.plan import Plan
from vexkd_model.ablation.records import Records
from vexkd_model.ablation.run_record import Figures
from vexkd_model.files import atomic_file

MARKDOWN, CSV = "table.md", "table.csv"
METRICS = ("mAP", "NDS", "mIoU")
ABSENT = "–"


class SeedStatistics(NamedTuple):
    """Mean of a figure over seeds, and its sample standard deviation; None for a single seed."""

    mean: float
    deviation: float | None
    seeds: int


class Difference(NamedTuple):
    """Difference of two means, with its standard error if both have at least two seeds."""

    value: float
    error: float | None


class RowFigures(NamedTuple):
    """Row of a table. spreads: by metric; None if the model has no head for it, or no seed is finished."""

    name: str
    done: int
    seeds: int
    spreads: dict[str, SeedStatistics | None]


def spread(values: Sequence[float]) -> SeedStatistics | None:
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return SeedStatistics(statistics.mean(values), deviation, len(values))


def difference(row: SeedStatistics | None, baseline: SeedStatistics | None) -> Difference | None:
    """Subtract the baseline's mean; the error is that of independent runs, √(s²/n + s₀²/n₀).

    The effect of a seed that both have is not subtracted.
    """
    if row is None or baseline is None:
        return None
    value = row.mean - baseline.mean
    if row.deviation is None or baseline.deviation is None:
        return Difference(value, None)
    return Difference(
        value, math.hypot(row.deviation / math.sqrt(row.seeds), baseline.deviation / math.sqrt(baseline.seeds))
    )


def write_tables(plan: Plan, out: Path, records: Records | None = None) -> None:
    """Write table.md and table.csv of the runs finished so far; records: of runs whose folders are not in `out`."""
    rows = collect(plan, out, records)
    for name, text in ((MARKDOWN, markdown(rows, plan.baseline)), (CSV, comma_separated(rows, plan.baseline))):
        with atomic_file(out / name) as partial:
            partial.write_text(text)


def collect(plan: Plan, out: Path, records: Records | None = None) -> list[RowFigures]:
    """Collect the figures of the finished runs, one entry per row of the plan."""
    runs, rows = runs_of(plan, out), []
    for row in plan.rows:
        finished_or_none = [_figures(run, records) for run in runs if run.row is row]
        done = [figures for figures in finished_or_none if figures]
        values = {metric: [getattr(figures, metric) for figures in done] for metric in METRICS}
        spreads = {metric: spread([value for value in of if value is not None]) for metric, of in values.items()}
        rows.append(RowFigures(row.name, len(done), len(plan.seeds_of(row)), spreads))
    return rows


def _figures(run: Run, records: Records | None) -> Figures | None:
    """Figures of a run from its evaluation or record; None if it is not finished."""
    if run.finished:
        return figures_of(json.loads(run.figures.read_text()))
    record = records and records.find(run)
    return record.figures if record else None


def markdown(rows: Sequence[RowFigures], baseline: str | None) -> str:
    header = ["row", "seeds", *METRICS, *(f"{metric} − {baseline}" for metric in METRICS if baseline)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for row in rows:
        cells = [row.name, f"{row.done} of {row.seeds}", *(format_spread(row.spreads[metric]) for metric in METRICS)]
        if baseline:
            cells += [
                ABSENT if row.name == baseline else format_difference(difference(row.spreads[metric], base))
                for metric, base in _row(rows, baseline).spreads.items()
            ]
        lines.append(cells)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def comma_separated(rows: Sequence[RowFigures], baseline: str | None) -> str:
    """Format the rows with numbers in full and empty fields for missing ones.

    The baseline's difference to itself is left out.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    parts = ("mean", "std", *(("difference", "standard_error") if baseline else ()))
    table.writerow(["row", "seeds_done", "seeds", *(f"{metric}_{part}" for metric in METRICS for part in parts)])
    for row in rows:
        cells = [row.name, row.done, row.seeds]
        for metric, own in row.spreads.items():
            cells += (own.mean, own.deviation) if own else (None, None)
            if baseline:
                than = None if row.name == baseline else difference(own, _row(rows, baseline).spreads[metric])
                cells += than or (None, None)
        table.writerow(cells)
    return text.getvalue()


def _row(rows: Sequence[RowFigures], name: str) -> RowFigures:
    return next(row for row in rows if row.name == name)


def format_spread(spread: SeedStatistics | None) -> str:
    """Format a mean with its deviation, if it has one, for a cell of a table."""
    if spread is None:
        return ABSENT
    return f"{spread.mean:.3f}" + (f" ± {spread.deviation:.3f}" if spread.deviation is not None else "")


def format_difference(change: Difference | None) -> str:
    """Format a difference with its standard error, if there is one, for a cell of a table."""
    if change is None:
        return ABSENT
    return f"{change.value:+.3f}" + (f" ± {change.error:.3f}" if change.error is not None else "")

"""The figures of an ablation as a table: mean and spread over seeds, and the difference to a baseline."""

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
from vexkd_model.files import whole_file

MARKDOWN, CSV = "table.md", "table.csv"
METRICS = ("mAP", "NDS", "mIoU")
ABSENT = "–"


class Spread(NamedTuple):
    """Of the same figure over seeds: their mean, and the sample standard deviation of two and more."""

    mean: float
    deviation: float | None
    count: int


class Difference(NamedTuple):
    """Of two means, with its standard error where both have two and more seeds."""

    value: float
    error: float | None


class RowFigures(NamedTuple):
    """spreads: by metric; None for one that the model has no head for, or with no seed finished."""

    name: str
    done: int
    seeds: int
    spreads: dict[str, Spread | None]


def spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def difference(row: Spread | None, baseline: Spread | None) -> Difference | None:
    """Standard error as of independent runs, √(s²/n + s₀²/n₀). What two runs of one seed share is not subtracted."""
    if row is None or baseline is None:
        return None
    value = row.mean - baseline.mean
    if row.deviation is None or baseline.deviation is None:
        return Difference(value, None)
    return Difference(value, math.hypot(row.deviation / math.sqrt(row.count),
                                        baseline.deviation / math.sqrt(baseline.count)))


def write_tables(plan: Plan, out: Path, records: Records | None = None) -> None:
    """table.md for people, table.csv for programs, of what is finished so far; records: of runs that are not here."""
    rows = collect(plan, out, records)
    for name, text in ((MARKDOWN, markdown(rows, plan.baseline)), (CSV, comma_separated(rows, plan.baseline))):
        with whole_file(out / name) as partial:
            partial.write_text(text)


def collect(plan: Plan, out: Path, records: Records | None = None) -> list[RowFigures]:
    """One a row of the plan, of the runs that are finished."""
    runs, rows = runs_of(plan, out), []
    for row in plan.rows:
        found = [_figures(run, records) for run in runs if run.row is row]
        done = [figures for figures in found if figures]
        values = {metric: [getattr(figures, metric) for figures in done] for metric in METRICS}
        spreads = {metric: spread([value for value in of if value is not None]) for metric, of in values.items()}
        rows.append(RowFigures(row.name, len(done), len(plan.seeds_of(row)), spreads))
    return rows


def _figures(run: Run, records: Records | None) -> Figures | None:
    """None of a run that is not finished."""
    if run.finished:
        return figures_of(json.loads(run.figures.read_text()))
    record = records and records.find(run)
    return record.figures if record else None


def markdown(rows: Sequence[RowFigures], baseline: str | None) -> str:
    header = ["row", "seeds", *METRICS, *(f"{metric} − {baseline}" for metric in METRICS if baseline)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for row in rows:
        cells = [row.name, f"{row.done} of {row.seeds}", *(_of_spread(row.spreads[metric]) for metric in METRICS)]
        if baseline:
            cells += [ABSENT if row.name == baseline else _of_difference(difference(row.spreads[metric], of_baseline))
                      for metric, of_baseline in _row(rows, baseline).spreads.items()]
        lines.append(cells)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def comma_separated(rows: Sequence[RowFigures], baseline: str | None) -> str:
    """Numbers in full; an empty field for what is not there. The baseline's difference to itself is left out."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    parts = ("mean", "std", *(("difference", "standard_error") if baseline else ()))
    table.writerow(["row", "seeds_done", "seeds", *(f"{metric}_{part}" for metric in METRICS for part in parts)])
    for row in rows:
        cells = [row.name, row.done, row.seeds]
        for metric, found in row.spreads.items():
            cells += (found.mean, found.deviation) if found else (None, None)
            if baseline:
                than = None if row.name == baseline else difference(found, _row(rows, baseline).spreads[metric])
                cells += than or (None, None)
        table.writerow(cells)
    return text.getvalue()


def _row(rows: Sequence[RowFigures], name: str) -> RowFigures:
    return next(row for row in rows if row.name == name)


def _of_spread(found: Spread | None) -> str:
    if found is None:
        return ABSENT
    return f"{found.mean:.3f}" + (f" ± {found.deviation:.3f}" if found.deviation is not None else "")


def _of_difference(found: Difference | None) -> str:
    if found is None:
        return ABSENT
    return f"{found.value:+.3f}" + (f" ± {found.error:.3f}" if found.error is not None else "")

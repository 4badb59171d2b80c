"""Study: the records of a plan's runs by row and seed, and the comparison of two rows."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vexkd_model.ablation.outline import OUTLINE, Outline, read_outline
from vexkd_model.ablation.run_record import Figures, RunRecord, read_record
from vexkd_model.ablation.table import difference, spread
from vexkd_model.errors import UserError


class StudyRow(NamedTuple):
    """Row of a study. planned: seeds of the plan. records: of the finished runs, by seed, ascending."""

    name: str
    planned: tuple[int, ...]
    records: dict[int, RunRecord]

    def values(self, figure: Callable[[Figures], float | None]) -> dict[int, float]:
        """Values of a figure by seed, without the seeds that do not have it."""
        values = {seed: figure(record.figures) for seed, record in self.records.items()}
        return {seed: value for seed, value in values.items() if value is not None}


class Study(NamedTuple):
    """Rows of a plan, in its order. baseline: the row that the others are compared with, if any."""

    name: str
    baseline: StudyRow | None
    rows: tuple[StudyRow, ...]

    @property
    def records(self) -> list[RunRecord]:
        return [record for row in self.rows for record in row.records.values()]


class Comparison(NamedTuple):
    """Mean of a row minus the baseline's, and its standard error, None of a single seed. paired: by seed."""

    value: float
    error: float | None
    paired: bool


def compare(row: Mapping[int, float], baseline: Mapping[int, float]) -> Comparison | None:
    """Compare a row with the baseline, both by seed; None if one of them has no value.

    Paired by seed if both have the same seeds: the effect of a seed on both of them cancels out, and the error is the
    deviation of the differences over √n. Otherwise as of independent runs.
    """
    if row.keys() == baseline.keys() and row:
        differences = [row[seed] - baseline[seed] for seed in sorted(row)]
        error = statistics.stdev(differences) / math.sqrt(len(row)) if len(row) > 1 else None
        return Comparison(statistics.mean(differences), error, paired=True)
    unpaired = difference(spread(list(row.values())), spread(list(baseline.values())))
    return unpaired and Comparison(unpaired.value, unpaired.error, paired=False)


def read_studies(folders: Sequence[Path]) -> list[Study]:
    """Read the studies of folders of records, or of folders that hold some; UserError for one without any."""
    return [read_study(place) for folder in folders for place in _places(folder)]


def _places(folder: Path) -> list[Path]:
    if any(folder.glob("*.json")):
        return [folder]
    places = sorted(path.parent for path in folder.glob(f"*/{OUTLINE}"))
    if not places:
        raise UserError(f"{folder}: no records there; `vexkd ablate` writes them with --records")
    return places


def read_study(folder: Path) -> Study:
    """Read a study: rows in the order of the plan, then rows that only `vexkd record` knows."""
    by_row: dict[str, dict[int, RunRecord]] = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != OUTLINE:
            record = read_record(path)
            if record.seed in by_row.setdefault(record.row, {}):
                raise UserError(f"{path}: another file of the folder holds seed {record.seed} of row {record.row}, too")
            by_row[record.row][record.seed] = record
    outline = (
        read_outline(folder)
        if (folder / OUTLINE).is_file()
        else Outline(name=folder.resolve().name, baseline=None, rows=())
    )
    planned = {row.name: row.seeds for row in outline.rows}
    names = [*planned, *sorted(by_row.keys() - planned.keys())]
    rows = tuple(StudyRow(name, planned.get(name, ()), dict(sorted(by_row.get(name, {}).items()))) for name in names)
    study = Study(outline.name, next((row for row in rows if row.name == outline.baseline), None), rows)
    _check_comparable(folder, study)
    return study


def _check_comparable(folder: Path, study: Study) -> None:
    """Raise UserError if the seeds of a row differ in configuration or data, or the runs in their evaluation's data."""
    for row in study.rows:
        if _count(json.dumps(record.data, sort_keys=True) for record in row.records.values()) > 1:
            raise UserError(f"{folder}: row {row.name}: its seeds are of different data; keep those of one dataset")
        if _count(record.identity().config_hash for record in row.records.values()) > 1:
            raise UserError(
                f"{folder}: row {row.name}: its seeds are of different configurations; remove those of "
                "the old one and run them again"
            )
    if _count(sorted(record.data["eval"].items()) for record in study.records) > 1:
        raise UserError(f"{folder}: its runs were evaluated on different data; keep those of one dataset")


def _count(values: Iterable[object]) -> int:
    """Number of different values."""
    return len({repr(value) for value in values})

"""The loss curves that a training has logged."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vexkd_model.errors import UserError

LOG, TABLE = "log", "metrics.csv"
SUM, TERM = "loss", "loss/"
# How the names of terms begin that no plain training has.
OF_DISTILLATION = ("distill_", "mask_", "relation", "response_", "teacher_labels")


class Curve(NamedTuple):
    """Values at steps, both (N,), steps ascending."""

    steps: np.ndarray
    values: np.ndarray


def is_of_distillation(name: str) -> bool:
    """Whether a term, with or without the log's prefix, is of distillation and not of the tasks."""
    return name.removeprefix(TERM).startswith(OF_DISTILLATION)


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

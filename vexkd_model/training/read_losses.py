"""Read the loss curves that a training has logged."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vexkd_model.errors import UserError

LOG, TABLE = "log", "metrics.csv"
SUM, TERM = "loss", "loss/"
# Prefixes of terms that only a distillation has.
DISTILLATION_TERMS = ("distill_", "mask_", "relation", "response_", "teacher_labels")


class Curve(NamedTuple):
    """Loss curve: values at steps, both (N,), steps ascending."""

    steps: np.ndarray
    values: np.ndarray


def is_of_distillation(name: str) -> bool:
    """Distinguish terms of distillation, with or without the log's prefix, from those of the tasks."""
    return name.removeprefix(TERM).startswith(DISTILLATION_TERMS)


def read_losses(run: Path) -> dict[str, Curve]:
    """Read the losses of a run by name, `loss` the sum; steps that a resumed training repeated have its values.

    UserError where nothing was logged, or where a table is damaged.
    """
    values: dict[str, dict[int, float]] = {}
    for table in sorted((run / LOG).glob(f"version_*/{TABLE}"), key=_version):
        for step, name, value in _logged(table):
            values.setdefault(name, {})[step] = value
    if not values:
        raise UserError(f"{run / LOG}: no losses there; `vexkd train` and `vexkd distill` log them from step 10 on")
    return {
        name: Curve(np.array(sorted(at)), np.array([at[step] for step in sorted(at)])) for name, at in values.items()
    }


def _logged(table: Path) -> list[tuple[int, str, float]]:
    """Step, name and value of each loss, in the order of the file."""
    try:
        with table.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["step"]]  # a training may be writing the last one
        return [
            (int(row["step"]), name, float(row[name]))
            for row in rows
            for name in row
            if row[name] and (name == SUM or name.startswith(TERM))
        ]
    except (ValueError, KeyError, AttributeError, csv.Error):
        raise UserError(f"{table}: damaged; mend or remove the line that is not of numbers") from None


def _version(table: Path) -> int:
    return int(table.parent.name.removeprefix("version_"))

"""Outline of a plan: its rows in order, their seeds and the baseline, beside the records of its runs.

Records alone would not show which rows and seeds are still missing.
"""

import json
from pathlib import Path

from vexkd_model.ablation.plan import Plan
from vexkd_model.config.reading import parse_section
from vexkd_model.config.section import Section
from vexkd_model.errors import UserError
from vexkd_model.files import write_json

OUTLINE = "plan.json"


class RowOutline(Section):
    name: str
    seeds: tuple[int, ...]


class Outline(Section):
    """Name, rows and baseline of a plan; baseline: the row that the others are compared with."""

    name: str
    baseline: str | None
    rows: tuple[RowOutline, ...]


def outline_of(plan: Plan, name: str) -> Outline:
    rows = [RowOutline(name=row.name, seeds=plan.seeds_of(row)) for row in plan.rows]
    return Outline(name=name, baseline=plan.baseline, rows=tuple(rows))


def write_outline(folder: Path, outline: Outline) -> None:
    write_json(folder / OUTLINE, outline.model_dump(mode="json"))


def read_outline(folder: Path) -> Outline:
    path = folder / OUTLINE
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        raise UserError(f"{path}: cannot be read; `vexkd ablate` writes it with --records") from None
    return parse_section(Outline, values, str(path), "plan")

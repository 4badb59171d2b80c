"""Version of a row, kept beside its results, so that a folder never mixes runs of two versions of a row."""

import json
from pathlib import Path

from vexkd_model.ablation.commands import Run
from vexkd_model.ablation.plan import Plan, TrainedRow
from vexkd_model.config import EXAMPLE, FOLDER
from vexkd_model.config.reading import read_mapping
from vexkd_model.errors import UserError
from vexkd_model.files import write_json


def check_version(plan: Plan, run: Run) -> None:
    """Raise UserError if the run began with another configuration, teacher or data."""
    path = _path(run)
    if not path.is_file():
        return
    before, now = json.loads(path.read_text()), _version(plan, run)
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        raise UserError(
            f"row {run.row.name}: {path.parent} holds runs of it as it was before ({', '.join(changed)} "
            "changed); give the row another name, choose another --out, or remove that folder"
        )


def write_version(plan: Plan, run: Run) -> None:
    write_json(_path(run), _version(plan, run))


def _path(run: Run) -> Path:
    return run.figures.with_suffix(".row.json")


def _version(plan: Plan, run: Run) -> dict:
    """Configuration, teacher and data, on which the run's figures depend."""
    version = {
        "dataroot": str(plan.dataroot),
        "version": plan.version,
        "eval_split": plan.splits[1],
        **run.row.model_dump(mode="json", exclude={"name", "seeds"}),
        "builds_on": run.base and _version(plan, run.base),
    }
    if isinstance(run.row, TrainedRow):
        config = read_mapping(run.row.config_file, "model", FOLDER, EXAMPLE)
        if run.row.teacher is None:
            config.pop("distillation", None)
        version |= {"train_split": plan.training_split(run.row), "config": config, "seed": run.seed}
    return version

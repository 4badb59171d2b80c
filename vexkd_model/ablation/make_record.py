"""Making of the record of a run folder and its evaluation."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vexkd_model.ablation.run_record import (
    Figures,
    LossCurve,
    RecordedTeacher,
    RecordedTraining,
    RunRecord,
    config_hash,
)
from vexkd_model.config import load_config
from vexkd_model.errors import UserError
from vexkd_model.evaluation.report import MEAN_ERRORS
from vexkd_model.training.read_losses import LOG, SUM, TERM, Curve, read_losses
from vexkd_model.training.run import CONFIG, EVALUATION, RECORD, is_run, read_checkpoint

ABSOLUTE = re.compile(r"(?<![^\s=\"':])/(?:[^\s\"'/]+/)*?([^\s\"'/]+)/?(?=[\s\"']|$)")  # a word or a value of --set
MAX_POINTS, DIGITS = 60, 4  # of a loss curve


def make_record(
    run: Path,
    row: str,
    plan: str | None = None,
    evaluation: Path | None = None,
    teacher: Path | None = None,
    teacher_row: str | None = None,
) -> RunRecord:
    """Make the record of a finished run; UserError if a file that it needs is missing.

    evaluation: JSON of `vexkd evaluate`, by default the run's own. teacher: run or package of its teacher, by default
    the path that the run recorded. teacher_row: the teacher's row in the plan, by default its folder's name.
    """
    if not is_run(run):
        raise UserError(f"{run}: is no run; `vexkd train` or `vexkd distill` makes one")
    began, evaluated = json.loads((run / RECORD).read_text()), _report(run, evaluation or run / EVALUATION)
    config = load_config(run / CONFIG)
    return RunRecord(
        plan=plan,
        row=row,
        seed=config.training.seed,
        config=config.model_dump(mode="json"),
        config_hash=config_hash(config),
        data={"train": began["data"], "eval": evaluated["data"], **_unlabelled(began)},
        dropped=evaluated.get("dropped"),
        source_revision=began["source_revision"],
        torch=began["torch"],
        machine=began.get("machine"),
        commands={"train": without_places(began["command"]), "evaluate": without_places(evaluated["command"])},
        teacher=_teacher(run, began["teacher"], teacher, teacher_row) if "teacher" in began else None,
        figures=figures_of(evaluated),
        training=_training(run),
    )


def _unlabelled(began: dict[str, Any]) -> dict[str, dict[str, Any]]:
    described = {key: value for key, value in began.get("unlabelled", {}).items() if key != "identity"}
    return {"unlabelled": described} if described else {}


def figures_of(report: dict[str, Any]) -> Figures:
    """Extract the official figures from a report of `vexkd evaluate`."""
    detection, maps = report["detection"] or {}, report["map"] or {}
    errors = detection.get("tp_errors", {})
    return Figures(
        mAP=detection.get("mean_ap"),
        NDS=detection.get("nd_score"),
        AP=detection.get("class_ap"),
        mIoU=maps.get("mean_iou"),
        IoU=maps.get("class_iou"),
        **{name: errors.get(error) for error, name in MEAN_ERRORS.items()},
    )


def without_places(command: str) -> str:
    """Shorten every absolute path of a command to its last name, which means something on other machines, too."""
    return ABSOLUTE.sub(r"\1", command)


def _report(run: Path, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            f"{path}: no such evaluation; `vexkd evaluate {shlex.quote(str(run))} --dataroot DATAROOT "
            f"--version VERSION` writes {run / EVALUATION}"
        )
    return json.loads(path.read_text())


def _teacher(run: Path, recorded: dict[str, str], folder: Path | None, row: str | None) -> RecordedTeacher:
    folder = folder or Path(recorded["from"])
    if not (folder / CONFIG).is_file():  # of a run and of a package
        raise UserError(f"{folder}: the teacher of {run} is not there; give its present folder with --teacher")
    config = load_config(folder / CONFIG)
    return RecordedTeacher(
        row=row or folder.name,
        seed=config.training.seed,
        config=config.model_dump(mode="json"),
        fingerprint=recorded["fingerprint"],
    )


def _training(run: Path) -> RecordedTraining:
    checkpoint = read_checkpoint(run)
    elapsed = checkpoint.get("callbacks", {}).get("Timer", {}).get("time_elapsed", {})
    logged = any((run / LOG).glob("version_*/*.csv"))  # a very short training logs nothing
    return RecordedTraining(
        seconds=round(elapsed["train"], 1) if "train" in elapsed else None,
        steps=checkpoint["global_step"],
        epochs=checkpoint["epoch"] + 1,
        loss=thin_curves(read_losses(run)) if logged else None,
    )


def thin_curves(curves: Mapping[str, Curve], points: int = MAX_POINTS) -> LossCurve:
    """Thin the losses of a run to at most `points` steps, few enough for a repository.

    The first and the last logged step stay. A value is the mean of what was logged since the step before: a single
    batch shows little. None where a term was not logged, as of masks that no longer learn.
    """
    steps = curves[SUM].steps
    kept = np.unique(np.linspace(0, len(steps) - 1, min(points, len(steps))).round().astype(int))
    ends = steps[kept].tolist()
    terms = {name.removeprefix(TERM): _means(curve, ends) for name, curve in sorted(curves.items()) if name != SUM}
    return LossCurve.model_validate({"steps": ends, "total": _means(curves[SUM], ends), "terms": terms})


def _means(curve: Curve, ends: list[int]) -> list[float | None]:
    """Means over the steps of each interval (previous end, end]."""
    means, start = [], -1
    for end in ends:
        inside = curve.values[(curve.steps > start) & (curve.steps <= end)]
        means.append(float(f"{inside.mean():.{DIGITS}g}") if len(inside) else None)
        start = end
    return means

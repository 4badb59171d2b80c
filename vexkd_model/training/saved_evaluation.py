"""Saved evaluations: of a run, in its folder; of a package, in its card; or in a file of `vexkd evaluate --json`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.missing_sensor import Sensor
from vexkd_model.deploy.card import CARD, read_card
from vexkd_model.deploy.predictor import EXACT
from vexkd_model.errors import UserError
from vexkd_model.evaluation.details import Details
from vexkd_model.evaluation.detection import DetectionResult
from vexkd_model.evaluation.map_iou import MapResult
from vexkd_model.evaluation.split import SplitResult
from vexkd_model.training.run import EVALUATION, EVALUATION_WITHOUT, describe_data, is_run, trained_on, trainings_of

DETAILS = "details"
OF_A_CARD = ("data", "subset_of_scenes", "runtime", "command", "detection", "map")


class SavedEvaluation(NamedTuple):
    """Figures of a model on data, as `describe_data` describes it."""

    data: dict[str, Any]
    result: SplitResult


def report_of(result: SplitResult, index: FrameIndex, drop: Sensor | None, runtime: str) -> dict[str, Any]:
    """Make the document that `vexkd evaluate` saves."""
    return {
        "data": describe_data(index),
        **({"dropped": drop} if drop else {}),
        **({} if runtime == EXACT else {"runtime": runtime}),
        "command": " ".join(["vexkd", *sys.argv[1:]]),
        **result.to_dict(),
        **({DETAILS: result.details.to_dict()} if result.details else {}),
    }


def own_file(folder: Path, index: FrameIndex, drop: Sensor | None, runtime: str) -> tuple[Path | None, str | None]:
    """Choose the file of a run's own evaluation; None where this one is another's, with a reason, and for a package."""
    if not is_run(folder):
        return None, None  # a package's card states what the whole model can do
    if runtime != EXACT:
        return None, f"{folder / EVALUATION}: left as it is, it is for {EXACT}"
    if not trained_on(folder, index):
        return None, f"{folder / EVALUATION}: left as it is, it is for the dataset that the run was trained on"
    return folder / (EVALUATION_WITHOUT.format(drop) if drop else EVALUATION), None


def read_evaluation(place: Path) -> SavedEvaluation | None:
    """Read the evaluation of a run, a package or a file; None where a run or package has none.

    UserError for anything else.
    """
    if place.is_file():
        return parse_report(_read(place), place)
    if is_run(place):
        path = place / EVALUATION
        return parse_report(_read(path), path) if path.is_file() else None
    if (place / CARD).is_file():
        metrics = read_card(place)[1].metrics
        return parse_report(metrics, place / CARD) if metrics else None
    raise UserError(f"{place}: neither a run, a package nor a JSON of `vexkd evaluate`")


def figures_of_file(path: Path) -> dict[str, Any]:
    """Read what a card states of a saved evaluation: data, command and metrics, without curves and causes of errors.

    UserError if the file is none, or of a sensor left out.
    """
    report = _read(path)
    parse_report(report, path)
    if "dropped" in report:
        raise UserError(f"{path}: was made without {report['dropped']}; a card states what the whole model can do")
    return {key: report[key] for key in OF_A_CARD if key in report}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        raise UserError(f"{path}: cannot be read as JSON; `vexkd evaluate … --json FILE` writes it") from None


def parse_report(report: Mapping[str, Any], path: Path) -> SavedEvaluation:
    """Make of a saved document what was saved; UserError names the path where it is none."""
    try:
        detection, maps, details = (report.get(key) for key in ("detection", "map", DETAILS))
        scenes = report.get("subset_of_scenes")
        return SavedEvaluation(
            report["data"],
            SplitResult(
                detection and DetectionResult(**detection),
                maps and MapResult(**maps),
                scenes and tuple(scenes),
                details and Details.of_dict(details),
            ),
        )
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{path}: not an evaluation; `vexkd evaluate … --json FILE` writes one") from None


def remembers(folder: Path, index: FrameIndex) -> bool:
    """Check that a model, or the weights with which its training began, saw the very split of an index in training."""

    def same(trained: Mapping[str, Any]) -> bool:
        tables = (trained.get("identity") or {}).get("tables", index.tables)
        return tables == index.tables and all(trained.get(key) == value for key, value in describe_data(index).items())

    return any(same(training) for training in trainings_of(folder))

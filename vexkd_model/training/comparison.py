"""Evaluations of several models on the same data: saved ones, and new ones where they are missing."""

from collections.abc import Sequence
from pathlib import Path

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.requirements import check_evaluable
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.files import write_json
from vexkd_model.training.run import describe_data, load_trained
from vexkd_model.training.saved_evaluation import SavedEvaluation, own_file, read_evaluation, report_of


def evaluations_of(places: Sequence[Path], index: FrameIndex | None, device: str = "cpu") -> list[SavedEvaluation]:
    """Collect an evaluation of each run, package or JSON file.

    index: evaluate on it what was saved of other data or without details; a run keeps its new evaluation. UserError
    where nothing is saved and there is no index, and where the data differ.
    """
    evaluations = [_evaluation(place, index, device) for place in places]
    first = evaluations[0].data
    for place, evaluation in zip(places, evaluations, strict=True):
        if key := next((key for key in first if evaluation.data.get(key) != first[key]), None):
            raise UserError(
                f"{place}: was evaluated with {key} {evaluation.data.get(key)}, {places[0]} with {first[key]}; "
                "--dataroot evaluates all of them on the same data"
            )
    return evaluations


def _evaluation(place: Path, index: FrameIndex | None, device: str) -> SavedEvaluation:
    saved = read_evaluation(place)
    if index is None:
        if saved is None:
            raise UserError(f"{place}: not evaluated yet; `vexkd evaluate` does that, or give --dataroot")
        return saved
    same = saved is not None and saved.data == describe_data(index)
    if saved is not None and same and (saved.result.details or saved.result.detection is None):
        return saved
    if place.is_file():
        if saved is None or not same:
            raise UserError(f"{place}: of other data than {index.folder}; give the run or package itself")
        return saved
    return _evaluate(place, index, device)


def _evaluate(folder: Path, index: FrameIndex, device: str) -> SavedEvaluation:
    predictor = Predictor(*load_trained(folder), card=None, device=device)
    config = predictor.config
    check_evaluable(config, index)
    result = score_split(
        predict_split(predictor, index), index, detects=config.detection is not None, sensors=config.sensors
    )
    path, _ = own_file(folder, index, None, predictor.runtime)
    if path is not None:
        write_json(path, report_of(result, index, None, predictor.runtime))
    return SavedEvaluation(describe_data(index), result)

"""Offline evaluation: a student on every frame of a split → official detection metrics and map mIoU."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.evaluation.detection import DetectionResult, evaluate_detections, submission
from vexkd_model.evaluation.map_iou import MapIou, MapResult
from vexkd_model.files import write_json
from vexkd_model.progress import progress
from vexkd_model.types import Prediction


@dataclass(frozen=True)
class SplitResult:
    """maps is None for a dataset without the map expansion."""

    detection: DetectionResult
    maps: MapResult | None


def predict_split(predictor: Predictor, index: FrameIndex) -> list[Prediction]:
    """One Prediction a keyframe, in the order of the index."""
    predictor.warm_up()
    return [predictor.predict(load_frame(index[i], predictor.sweeps))
            for i in progress(range(len(index)), f"predict {index.split}", unit="frames")]


def write_submission(path: Path, predictions: list[Prediction], index: FrameIndex) -> None:
    """Write nuScenes' submission format, which its evaluation server takes; the split needs no annotations."""
    write_json(path, submission(predictions, _poses(index)))


def score_split(predictions: list[Prediction], index: FrameIndex) -> SplitResult:
    """Score predictions for the frames of an index, whoever made them; every token of the split must be there."""
    with tempfile.TemporaryDirectory() as work_dir:
        detection = evaluate_detections(
            index.dataroot, index.version, index.split, predictions, _poses(index), Path(work_dir))
    if not index.has_maps:
        return SplitResult(detection, None)
    prediction_of = {prediction.token: prediction for prediction in predictions}
    iou = MapIou()
    for i, token in enumerate(index.column("token")):
        iou.update(prediction_of[token].map_probabilities, index.map_mask(i))
    return SplitResult(detection, iou.result())


def _poses(index: FrameIndex) -> dict[str, np.ndarray]:
    """Sample token → float64 (4, 4) ego pose."""
    return {record.token: record.global_from_base for record in (index[i] for i in range(len(index)))}

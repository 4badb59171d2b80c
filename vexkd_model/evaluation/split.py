"""Offline evaluation: a student on every frame of a split → official detection metrics and map mIoU."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.evaluation.detection import DetectionResult, evaluate_detections
from vexkd_model.evaluation.map_iou import MapIou, MapResult
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


def score_split(predictions: list[Prediction], index: FrameIndex) -> SplitResult:
    """Score predictions for the frames of an index, whoever made them; every token of the split must be there."""
    records = [index[i] for i in range(len(index))]
    with tempfile.TemporaryDirectory() as work_dir:
        detection = evaluate_detections(
            index.dataroot, index.version, index.split, predictions,
            {record.token: record.global_from_base for record in records}, Path(work_dir))
    if not index.has_maps:
        return SplitResult(detection, None)
    prediction_of = {prediction.token: prediction for prediction in predictions}
    iou = MapIou()
    for i, record in enumerate(records):
        iou.update(prediction_of[record.token].map_probabilities, index.map_mask(i))
    return SplitResult(detection, iou.result())

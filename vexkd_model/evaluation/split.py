"""Offline evaluation: a student on every frame of a split → official detection metrics and map mIoU."""

import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.missing_sensor import Sensor, check_droppable, without_sensor
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.evaluation.details import DetailCounter, Details
from vexkd_model.evaluation.detection import DetectionResult, score_submission, submission
from vexkd_model.evaluation.map_iou import MapIou, MapResult
from vexkd_model.progress import progress
from vexkd_model.types import Prediction


@dataclass(frozen=True)
class SplitResult:
    """Figures of a split.

    detection: None for a split without annotations (test). maps: None for a dataset without the map expansion or a
    model without segmentation. scenes: those of the split that were scored, None for all of them. details: what lies
    behind `detection`, which cards and records do without.
    """

    detection: DetectionResult | None
    maps: MapResult | None
    scenes: tuple[str, ...] | None = None
    details: Details | None = None

    def to_dict(self) -> dict:
        """Convert to plain dictionaries and numbers, for JSON, without details; null for what is absent."""
        subset = {} if self.scenes is None else {"subset_of_scenes": list(self.scenes)}
        return {
            "detection": self.detection and self.detection.to_dict(),
            "map": self.maps and self.maps.to_dict(),
            **subset,
        }


def predict_split(predictor: Predictor, index: FrameIndex, drop: Sensor | None = None) -> Iterator[Prediction]:
    """Yield one Prediction per keyframe, in the order of the index; lazily, as a map is a megabyte.

    drop: the sensor that every frame loses; UserError, before the first frame, if the model cannot lose it.
    """
    if drop:
        check_droppable(predictor.config, drop)
    predictor.warm_up()
    for i in progress(range(len(index)), f"predict {index.split}", unit="frames"):
        frame = load_frame(index, i, predictor.config)
        yield predictor.predict(without_sensor(frame, drop) if drop else frame)


def score_split(
    predictions: Iterable[Prediction],
    index: FrameIndex,
    submission_file: Path | None = None,
    detects: bool = True,
    sensors: Collection[str] = (),
) -> SplitResult:
    """Score predictions for the frames of an index, whoever made them; every token of the index must be there.

    submission_file: also written, in the format that nuScenes' evaluation server takes. Keyframes that the index leaves
    out (`vexkd prepare --skip-bad`) count as frames without detections, and stand in it as such. detects: whether the
    model has a head for them. sensors: lidar, camera or both, which the submission states.
    """
    records = (index[i] for i in range(len(index)))
    iou, details = MapIou(), DetailCounter()
    poses = {record.token: record.global_from_base for record in records}
    document = submission(_counted(predictions, index, iou, details if detects else None), poses, sensors)
    maps, detection = iou.result(), None
    if detects:
        with tempfile.TemporaryDirectory() as work_dir:
            detection = score_submission(
                index.dataroot,
                index.version,
                index.split,
                document,
                Path(work_dir),
                unreadable=index.skipped_frames,
                scenes=index.scenes,
                kept=submission_file,
            )
    return SplitResult(
        detection, maps if maps.samples else None, index.scenes, None if detection is None else details.result()
    )


def _counted(
    predictions: Iterable[Prediction], index: FrameIndex, iou: MapIou, details: DetailCounter | None
) -> Iterator[Prediction]:
    """Yield the same predictions, adding each one's map and boxes to the counters once it has been taken."""
    row_of = {token: i for i, token in enumerate(index.column("token"))}
    for prediction in predictions:
        yield prediction
        i = row_of[prediction.token]
        mask = index.map_mask(i)
        if mask is not None and prediction.map_probabilities is not None:
            iou.update(prediction.map_probabilities, mask)
        if details is not None:
            details.update(prediction, index[i].counted_boxes)

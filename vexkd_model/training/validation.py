"""Scores of a model while it is trained: fast AP by the official rule, and map IoU."""

from typing import NamedTuple

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import Batch
from vexkd_model.data.network_frame import in_base_link
from vexkd_model.deploy.predictor import detections_of
from vexkd_model.distributed import all_gather
from vexkd_model.evaluation.map_iou import MapIou
from vexkd_model.evaluation.precision import PrecisionRecall
from vexkd_model.heads.decode import build_decoder
from vexkd_model.model import ModelOutput
from vexkd_model.types import Boxes, Prediction

SCORE = "validation"  # in the log; its parts are validation/mAP and validation/mIoU


class Validation(NamedTuple):
    """Scores of a validation; None for a head that the model does not have."""

    mean_ap: float | None
    mean_iou: float | None

    def logged(self) -> dict[str, float]:
        """The parts by name, and their mean, by which the best checkpoint is chosen."""
        parts = {"mAP": self.mean_ap, "mIoU": self.mean_iou}
        known = {name: value for name, value in parts.items() if value is not None}
        return {SCORE: sum(known.values()) / len(known), **{f"{SCORE}/{name}": known[name] for name in known}}


class Validator:
    """Counter over the frames of one validation."""

    def __init__(self, config: ModelConfig) -> None:
        self.config, self.decoder = config, build_decoder(config)
        self.restart()

    def restart(self) -> None:
        """Forget all frames."""
        self.boxes, self.maps = PrecisionRecall(), MapIou()

    def update(self, output: ModelOutput, batch: Batch) -> None:
        """Add the model's output for a batch of one frame."""
        network_from_base = self.config.network_from_base
        boxes, scores = detections_of(self.decoder, output.detection, network_from_base)
        truth = Boxes(batch.boxes[0].cpu().numpy(), batch.labels[0].cpu().numpy())
        prediction = Prediction(boxes, scores, None, None, 0, batch.tokens[0])
        self.boxes.update(prediction, in_base_link(truth, network_from_base))
        if output.segmentation is not None and batch.map_known[0].any():
            probabilities = output.segmentation[0].float().sigmoid().cpu().numpy()
            self.maps.update(probabilities, batch.map_masks[0].cpu().numpy() > 0.5)

    def result(self) -> Validation:
        """Compute the scores of the frames of all processes."""
        boxes, maps = PrecisionRecall(), MapIou()
        for of_rank in all_gather((self.boxes, self.maps)):
            boxes.extend(of_rank[0].frames)
            maps.add(of_rank[1])
        ap = boxes.average_precision()
        return Validation(
            None if self.config.detection is None else sum(ap.values()) / len(ap),
            None if self.config.segmentation is None else maps.result().mean_iou,
        )

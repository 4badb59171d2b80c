"""The Predictor: the one code path from a Frame to a Prediction, offline and on the vehicle."""

import copy
from pathlib import Path

import numpy as np
import torch

from vexkd_model.config import ModelConfig
from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.deploy.package import StudentCard, load_package
from vexkd_model.errors import UserError
from vexkd_model.heads.center_decode import decode
from vexkd_model.student import LidarStudent, class_ids_of_tasks
from vexkd_model.types import POINT_FIELDS, Boxes, Frame, Prediction


class Predictor:
    """A loaded student, copied and made ready to run. `predict` may be called from one thread at a time."""

    def __init__(self, student: LidarStudent, config: ModelConfig, card: StudentCard | None, device: str) -> None:
        try:
            self.device = torch.device(device)
            # Channels last is how the scatter of points writes the BEV map; convolutions then copy nothing.
            self.student = fold_batch_norms(copy.deepcopy(student).eval())
            self.student.to(self.device, memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device {device}: cannot be used here ({str(error).splitlines()[0]}); try cpu") from None
        self.config, self.card = config, card
        self.grid, self.map_grid = config.grid.grid(), config.segmentation.grid.grid()
        self.class_ids = class_ids_of_tasks(config)

    @classmethod
    def load(cls, package: str | Path, device: str = "cpu") -> "Predictor":
        """From a student package; UserError names the file and key of whatever is wrong with it."""
        return cls(*load_package(Path(package)), device)

    @property
    def sweeps(self) -> int:
        """LiDAR sweeps in a Frame, the newest included."""
        return self.config.sweeps

    @property
    def score_threshold(self) -> float:
        """No detection scores lower."""
        return self.config.detection.score_threshold

    @torch.inference_mode()
    def predict(self, frame: Frame) -> Prediction:
        points = torch.from_numpy(np.ascontiguousarray(frame.points, dtype=np.float32)).to(self.device)
        output = self.student(points, points.new_zeros(len(points), dtype=torch.long), 1)

        head = self.config.detection
        boxes, scores, labels = decode(output.detection, self.class_ids, self.grid, head.score_threshold,
                                       head.candidates, head.nms_iou, head.max_detections)
        return Prediction(
            boxes=Boxes(boxes.cpu().numpy(), labels.cpu().numpy()), scores=scores.cpu().numpy(),
            map_probabilities=output.segmentation[0].float().sigmoid().cpu().numpy(), map_grid=self.map_grid,
            stamp_ns=frame.stamp_ns, token=frame.token)

    def warm_up(self) -> None:
        """Run once, so that the first real frame does not pay for allocation and kernel selection."""
        points = np.zeros((1000, len(POINT_FIELDS)), np.float32)
        points[:, :2] = np.random.default_rng(0).uniform(-50, 50, (1000, 2))
        self.predict(Frame(points, stamp_ns=0))

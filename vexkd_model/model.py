"""The LiDAR student: points → low-level map → high-level map → detection and segmentation heads."""

from typing import NamedTuple

from torch import Tensor, nn

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.config import ModelConfig
from vexkd_model.heads.center import CenterHead, TaskMaps
from vexkd_model.heads.segmentation import SegmentationHead
from vexkd_model.lidar.pillars import PillarEncoder
from vexkd_model.types import DETECTION_CLASSES


class BevFeatures(NamedTuple):
    """The two levels that every BEV model has, and that distillation compares; each (B, C, Y, X)."""

    low: Tensor
    high: Tensor


class StudentOutput(NamedTuple):
    """features: both BEV levels. detection: one TaskMaps a task. segmentation: logits (B, 6, Y', X')."""

    features: BevFeatures
    detection: list[TaskMaps]
    segmentation: Tensor


class LidarStudent(nn.Module):
    """Points (N, 5) in base_link with their sample's number (N,) → StudentOutput."""

    def __init__(self, encoder: PillarEncoder, bev: BevEncoder, detection: CenterHead,
                 segmentation: SegmentationHead) -> None:
        super().__init__()
        self.encoder, self.bev, self.detection, self.segmentation = encoder, bev, detection, segmentation

    def forward(self, points: Tensor, sample: Tensor, batch_size: int) -> StudentOutput:
        low = self.encoder(points, sample, batch_size)
        high = self.bev(low)
        return StudentOutput(BevFeatures(low, high), self.detection(high), self.segmentation(high))


def build_student(config: ModelConfig) -> LidarStudent:
    """The model that a configuration describes, with random weights."""
    grid, encoder, bev = config.grid.grid(), config.encoder, config.bev
    return LidarStudent(
        PillarEncoder(grid, encoder.pillar, encoder.z_min, encoder.z_max, encoder.pillar_channels, encoder.channels),
        BevEncoder(encoder.channels, bev.stage_channels, bev.stage_layers, bev.lateral_channels),
        CenterHead(bev.channels, config.detection.shared_channels, config.detection.task_channels,
                   [len(task) for task in config.detection.tasks]),
        SegmentationHead(bev.channels, config.segmentation.channels, grid, config.segmentation.grid.grid()),
    )


def class_ids_of_tasks(config: ModelConfig) -> list[list[int]]:
    """Indices into DETECTION_CLASSES of each detection task's classes."""
    return [[DETECTION_CLASSES.index(name) for name in task] for task in config.detection.tasks]

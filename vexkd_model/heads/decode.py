"""Decoders of both detection heads: what a head predicts → boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import assert_never

from vexkd_model.config import ModelConfig
from vexkd_model.config.heads import CenterHeadConfig, CircleNmsConfig, RotatedNmsConfig, TransFusionConfig
from vexkd_model.geometry.bev_grid import cell_of_index, metres_from_cells
from vexkd_model.geometry.nms import circle_nms, rotated_nms
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.types import BevGrid

# As published: on the grid of ±54 m, boxes are kept whose centre lies within ±61.2 m and ±10 m of height.
BEYOND_GRID_M = 7.2
MAX_HEIGHT_M = 10.0


class Detections(NamedTuple):
    """Detected boxes float32 (M, 9) in base_link, scores float32 (M,), labels int64 (M,); best first."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class RotatedNms:
    """Suppression of boxes whose footprint's IoU with a kept, better one of their task exceeds `iou`.

    scale: factors on length and width in that comparison, one a class of the task; None: all 1. Small objects, whose
    footprints never meet, need larger ones.
    Source: scale-NMS of BEVDet (Huang et al. 2021).
    """

    iou: float
    scale: tuple[float, ...] | None = None

    def keep(self, boxes: Tensor, scores: Tensor, channel: Tensor, max_keep: int) -> Tensor:
        """Select the boxes (M, 9) to keep: int64 (K,) indices, best first; channel (M,): class index in the task."""
        if self.scale is not None:
            boxes = boxes.clone()
            boxes[:, 3:5] *= boxes.new_tensor(self.scale)[channel, None]
        return rotated_nms(boxes, scores, self.iou, max_keep)


@dataclass(frozen=True)
class CircleNms:
    """Suppression of boxes whose centre lies within `radius` metres of that of a kept, better one of their task."""

    radius: float

    def keep(self, boxes: Tensor, scores: Tensor, channel: Tensor, max_keep: int) -> Tensor:
        """Select boxes like RotatedNms.keep; all classes of the task have the same radius."""
        return circle_nms(boxes, scores, self.radius, max_keep)


@dataclass(frozen=True)
class CenterDecoder:
    """Decoder of CenterHead maps of a batch of one → at most `max_detections` Detections of all tasks.

    The inverse of center_loss.center_targets, then non-maximum suppression per task. class_ids: DETECTION_CLASSES
    indices of each task. nms: one per task, which compares all classes of the task and keeps at most `max_per_task`
    (None: max_detections). candidates: best cells of a task that reach its suppression.
    """

    class_ids: Sequence[Sequence[int]]
    grid: BevGrid
    score_threshold: float
    candidates: int
    nms: Sequence[RotatedNms | CircleNms]
    max_detections: int
    max_per_task: int | None = None

    def __call__(self, tasks: Sequence[TaskMaps]) -> Detections:
        parts = []
        for maps, ids, task_nms in zip(tasks, self.class_ids, self.nms, strict=True):
            boxes, scores, channel = best_cells(maps, self.grid, self.score_threshold, self.candidates)
            kept = task_nms.keep(boxes, scores, channel, self.max_per_task or self.max_detections)
            parts.append((boxes[kept], scores[kept], torch.as_tensor(ids, device=boxes.device)[channel[kept]]))
        boxes, scores, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        best = scores.argsort(descending=True, stable=True)[: self.max_detections]
        return Detections(boxes[best], scores[best], labels[best])


def near_grid(boxes: Tensor, grid: BevGrid) -> Tensor:
    """Mask, bool (M,), of boxes (M, ≥ 3) whose centres lie on the grid or at most a little beyond it."""
    low = boxes.new_tensor([grid.x_min - BEYOND_GRID_M, grid.y_min - BEYOND_GRID_M, -MAX_HEIGHT_M])
    high = boxes.new_tensor([grid.x_max + BEYOND_GRID_M, grid.y_max + BEYOND_GRID_M, MAX_HEIGHT_M])
    return ((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(dim=1)


def best_cells(maps: TaskMaps, grid: BevGrid, score_threshold: float, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Read the boxes at a task's best cells in a batch of one, best first, duplicates included.

    Returns boxes (M, 9) in base_link, scores (M,) and channels of the heatmap (M,).
    """
    cells = grid.shape[0] * grid.shape[1]
    scores = maps.heatmap[0].float().sigmoid().flatten()
    above = (scores >= score_threshold).nonzero()[:, 0]
    best = above[scores[above].topk(min(candidates, len(above))).indices]
    channel, cell = best // cells, best % cells
    fields = (field for field in maps[1:] if field is not None)
    offset, height, size, heading, velocity, *axis = (field[0].float().flatten(1)[:, cell].T for field in fields)
    centre = metres_from_cells(cell_of_index(cell, grid.shape) + offset, grid)
    yaw = torch.atan2(heading[:, :1], heading[:, 1:])
    if axis:
        yaw = along_axis(yaw, axis[0])
    boxes = torch.cat([centre, height, size.exp(), yaw, velocity], dim=1)
    near = near_grid(boxes, grid)
    return boxes[near], scores[best][near], channel[near]


def along_axis(yaw: Tensor, axis: Tensor) -> Tensor:
    """Choose the direction along an axis that is nearer to `yaw`, both (M, 1) [rad].

    axis: (M, 2), sin and cos of twice the axis' angle.
    """
    line = torch.atan2(axis[:, :1], axis[:, 1:]) / 2
    forwards = torch.cos(yaw - line) >= 0
    return torch.where(forwards, line, torch.where(line > 0, line - math.pi, line + math.pi))


@dataclass(frozen=True)
class TransFusionDecoder:
    """Decoder of TransFusionHead proposals of a batch of one → at most `max_detections` Detections.

    A proposal speaks only for the class whose peak it stands on; its score is that class's probability times the
    heatmap's at the peak.
    """

    grid: BevGrid
    score_threshold: float
    max_detections: int

    def __call__(self, output: TransFusionOutput) -> Detections:
        boxes, label = proposal_boxes(output, self.grid)[0], output.label[0]
        own_class = output.logits[0].float().sigmoid().gather(1, label[:, None])[:, 0]
        scores = own_class * output.score[0]
        wanted = ((scores >= self.score_threshold) & near_grid(boxes, self.grid)).nonzero()[:, 0]
        best = wanted[scores[wanted].argsort(descending=True, stable=True)[: self.max_detections]]
        return Detections(boxes[best], scores[best], label[best])


def proposal_boxes(output: TransFusionOutput, grid: BevGrid) -> Tensor:
    """Boxes float32 (B, P, 9) in base_link of all proposals, whatever their scores."""
    offset, height, size, heading, velocity = (field.float() for field in output[5:])
    centre = metres_from_cells(cell_of_index(output.cell, grid.shape) + 0.5 + offset, grid)
    yaw = torch.atan2(heading[..., :1], heading[..., 1:])
    return torch.cat([centre, height, size.exp(), yaw, velocity], dim=2)


def build_decoder(config: ModelConfig) -> CenterDecoder | TransFusionDecoder | None:
    """Build the decoder of the model's detection head; None for a model that detects nothing."""
    grid = config.grid.grid()
    match config.detection:
        case None:
            return None
        case TransFusionConfig() as c:
            return TransFusionDecoder(grid, c.score_threshold, c.max_detections)
        case CenterHeadConfig() as c:
            return CenterDecoder(
                c.class_ids(),
                grid,
                c.score_threshold,
                c.candidates,
                [_nms(task.nms) for task in c.tasks],
                c.max_detections,
                c.task_detections,
            )
        case _:
            assert_never(config.detection)


def _nms(config: RotatedNmsConfig | CircleNmsConfig) -> RotatedNms | CircleNms:
    match config:
        case RotatedNmsConfig() as c:
            return RotatedNms(c.iou, c.scale)
        case CircleNmsConfig() as c:
            return CircleNms(c.radius)
        case _:
            assert_never(config)

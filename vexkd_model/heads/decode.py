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
from vexkd_model.geometry.nms import circle_nms, rotated_nms_by_group
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

    def scaled(self, boxes: Tensor, channel: Tensor) -> Tensor:
        """Scale the boxes (M, 9) for the comparison; channel (M,): class index in the task."""
        if self.scale is None:
            return boxes
        boxes = boxes.clone()
        boxes[:, 3:5] *= boxes.new_tensor(self.scale)[channel, None]
        return boxes


@dataclass(frozen=True)
class CircleNms:
    """Suppression of boxes whose centre lies within `radius` metres of that of a kept, better one of their task."""

    radius: float


class Peaks(NamedTuple):
    """Boxes float32 (M, 9) in base_link at a task's best cells, scores (M,), channels of its heatmap int64 (M,)."""

    boxes: Tensor
    scores: Tensor
    channel: Tensor


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
        found = best_cells(tasks, self.grid, self.score_threshold, self.candidates)
        kept = suppress(found, self.nms, self.max_per_task or self.max_detections)
        boxes = torch.cat([task.boxes[chosen] for task, chosen in zip(found, kept, strict=True)])
        scores = torch.cat([task.scores[chosen] for task, chosen in zip(found, kept, strict=True)])
        labels = torch.cat(
            [
                torch.as_tensor(ids, device=boxes.device)[task.channel[chosen]]
                for task, ids, chosen in zip(found, self.class_ids, kept, strict=True)
            ]
        )
        best = scores.argsort(descending=True, stable=True)[: self.max_detections]
        return Detections(boxes[best], scores[best], labels[best])


def suppress(found: Sequence[Peaks], nms: Sequence[RotatedNms | CircleNms], max_keep: int) -> list[Tensor]:
    """Select what each task keeps after its own suppression: int64 (K,) indices, best first."""
    rotated = [(i, one) for i, one in enumerate(nms) if isinstance(one, RotatedNms)]
    kept = rotated_nms_by_group(
        [one.scaled(found[i].boxes, found[i].channel) for i, one in rotated],
        [found[i].scores for i, _ in rotated],
        [one.iou for _, one in rotated],
        max_keep,
    )
    of_task = {i: chosen for (i, _), chosen in zip(rotated, kept, strict=True)}
    for i, one in enumerate(nms):
        if isinstance(one, CircleNms):
            of_task[i] = circle_nms(found[i].boxes, found[i].scores, one.radius, max_keep)
    return [of_task[i] for i in range(len(nms))]


def near_grid(boxes: Tensor, grid: BevGrid) -> Tensor:
    """Mask, bool (M,), of boxes (M, ≥ 3) whose centres lie on the grid or at most a little beyond it."""
    low = boxes.new_tensor([grid.x_min - BEYOND_GRID_M, grid.y_min - BEYOND_GRID_M, -MAX_HEIGHT_M])
    high = boxes.new_tensor([grid.x_max + BEYOND_GRID_M, grid.y_max + BEYOND_GRID_M, MAX_HEIGHT_M])
    return ((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(dim=1)


def best_cells(tasks: Sequence[TaskMaps], grid: BevGrid, score_threshold: float, candidates: int) -> list[Peaks]:
    """Read the boxes at each task's best cells in a batch of one, best first, duplicates included.

    What follows the selection is computed for all tasks in one go: of so few boxes, calling is most of the time.
    """
    cells, scores, channels, fields = grid.shape[0] * grid.shape[1], [], [], []
    for maps in tasks:
        of_cell = maps.heatmap[0].float().sigmoid().flatten()
        above = (of_cell >= score_threshold).nonzero()[:, 0]
        best = above[of_cell[above].topk(min(candidates, len(above))).indices]
        scores.append(of_cell[best])
        channels.append(best // cells)
        cell = best % cells
        read = [field[0].flatten(1)[:, cell].float() for field in maps[1:] if field is not None]
        fields.append(torch.cat([cell_of_index(cell, grid.shape).T.float(), *read]))
    column_row, offset, height, size, heading, velocity, *axis = torch.cat(fields, dim=1).T.split(
        [2, *(field.shape[1] for field in tasks[0][1:] if field is not None)], dim=1
    )
    yaw = torch.atan2(heading[:, :1], heading[:, 1:])
    if axis:
        yaw = along_axis(yaw, axis[0])
    boxes = torch.cat([metres_from_cells(column_row + offset, grid), height, size.exp(), yaw, velocity], dim=1)
    counts, near = [len(task) for task in scores], near_grid(boxes, grid)
    peaks = map(Peaks, boxes.split(counts), scores, channels)
    if bool(near.all()):
        return list(peaks)
    return [Peaks(*(part[inside] for part in task)) for task, inside in zip(peaks, near.split(counts), strict=True)]


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

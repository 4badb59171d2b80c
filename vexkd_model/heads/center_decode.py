"""CenterHead maps → boxes: the inverse of center_loss.center_targets, then non-maximum suppression."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vexkd_model.geometry.nms import rotated_nms
from vexkd_model.heads.center import TaskMaps
from vexkd_model.types import BevGrid

TASK_SPACING_M = 1000.0  # moves the boxes of different tasks out of each other's reach, so that one NMS serves all


def decode_task(maps: TaskMaps, class_ids: Sequence[int], grid: BevGrid, score_threshold: float,
                candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 9), scores (M,), labels (M,) of a batch of one: the best `candidates` cells above the threshold."""
    columns = grid.shape[1]
    scores = maps.heatmap[0].float().sigmoid().flatten()
    above = (scores >= score_threshold).nonzero()[:, 0]
    best = above[scores[above].topk(min(candidates, len(above))).indices]
    channel, cell = best // (grid.shape[0] * columns), best % (grid.shape[0] * columns)
    offset, height, size, heading, velocity = (field[0].float().flatten(1)[:, cell].T for field in maps[1:])
    corner = torch.stack([cell % columns, cell // columns], dim=1)
    centre = (corner + offset) * grid.cell + offset.new_tensor([grid.x_min, grid.y_min])
    yaw = torch.atan2(heading[:, :1], heading[:, 1:])
    labels = torch.as_tensor(class_ids, device=best.device)[channel]
    return torch.cat([centre, height, size.exp(), yaw, velocity], dim=1), scores[best], labels


def decode(tasks: Sequence[TaskMaps], class_ids: Sequence[Sequence[int]], grid: BevGrid, score_threshold: float,
           candidates: int, nms_iou: float, max_detections: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 9), scores (M,), labels (M,) of all tasks, best first, duplicates within a task removed."""
    parts = [decode_task(maps, ids, grid, score_threshold, candidates)
             for maps, ids in zip(tasks, class_ids, strict=True)]
    boxes, scores, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    apart = boxes.clone()
    apart[:, 0] += torch.cat([boxes.new_full((len(part[0]),), TASK_SPACING_M * i) for i, part in enumerate(parts)])
    kept = rotated_nms(apart, scores, nms_iou, max_detections)
    return boxes[kept], scores[kept], labels[kept]

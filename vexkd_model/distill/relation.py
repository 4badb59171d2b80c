"""Relation distillation: similarities between the parts of an object in a BEV map.

Source: UniDistill (Zhou et al., CVPR 2023).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vexkd_model.distill.fixed_masks import nine_points
from vexkd_model.distributed import mean_count
from vexkd_model.geometry.bev_grid import on_grid, sample_from_metres
from vexkd_model.types import BevGrid

LEAST_NORM = 1e-6


def relation_loss(student: Tensor, teacher: Tensor, boxes: Sequence[Tensor], grid: BevGrid) -> Tensor:
    """Mean absolute difference of both maps' relations, mean over the boxes whose centre lies on the grid.

    student, teacher: (B, ·, Y, X), channels of their own. boxes: (M, 9) of each sample. 0 without boxes.
    """
    total, count = student.new_zeros((), dtype=torch.float32), 0
    for ours, theirs, own_boxes in zip(student, teacher, boxes, strict=True):
        points = nine_points(own_boxes[on_grid(own_boxes, grid)])
        total = total + (relations(ours, points, grid) - relations(theirs, points, grid)).abs().mean(dim=(1, 2)).sum()
        count += len(points)
    return total / mean_count(torch.full((), count, device=student.device))


def relations(features: Tensor, points: Tensor, grid: BevGrid) -> Tensor:
    """Cosine similarities float32 (M, 9, 9) of a map (C, Y, X) between nine points (M, 9, 2) of each box [m].

    The map is read bilinearly; a point beyond the grid reads its nearest border.
    """
    position = sample_from_metres(points.float(), grid)
    read = functional.grid_sample(features.float()[None], position[None], padding_mode="border", align_corners=False)
    unit = functional.normalize(read[0].permute(1, 2, 0), dim=2, eps=LEAST_NORM)
    return (unit[:, :, None] * unit[:, None]).sum(dim=3)  # autocast would round a matrix product to bfloat16

"""Hand-crafted masks of other distillation methods, with the interface of LearnedMasks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vexkd_model.geometry.bev_grid import cells_from_metres, on_grid
from vexkd_model.heads.center_loss import draw_gaussians, gaussian_radius
from vexkd_model.types import BevGrid

MaskFunction = Callable[[str, Tensor | None, Tensor, Sequence[Tensor]], Tensor]
GAUSSIAN_MIN_RADIUS = 1


def ones(level: str, query: Tensor | None, teacher_map: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """Mask that is 1 everywhere: the student mimics the whole map."""
    return teacher_map.new_ones(len(teacher_map), 1, *teacher_map.shape[2:], dtype=torch.float32)


def activation(level: str, query: Tensor | None, teacher_map: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """Mask of the teacher's activations: sum of magnitudes over channels, scaled to a maximum of 1 in each map."""
    magnitude = teacher_map.float().abs().sum(dim=1, keepdim=True)
    return magnitude / magnitude.amax(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def key_points(grid: BevGrid) -> MaskFunction:
    """Make the mask that is 1 in the cells of nine points of each box. Source: UniDistill (CVPR 2023)."""

    def mask(level: str, query: Tensor | None, teacher_map: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        marked = ones(level, query, teacher_map, boxes).zero_()
        for i, box in enumerate(boxes):
            points = nine_points(box).flatten(0, 1)
            column, row = cells_from_metres(points[on_grid(points, grid)], grid).long().unbind(dim=1)
            marked[i, 0, row, column] = 1.0
        return marked

    return mask


def gaussian(grid: BevGrid) -> MaskFunction:
    """Make the mask of a Gaussian around each box, all classes in one map.

    Source: BEVDistill (ICLR 2023): the radius keeps an overlap of 0.1 and is at least one cell.
    """

    def mask(level: str, query: Tensor | None, teacher_map: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        heat = ones(level, query, teacher_map, boxes).zero_()
        sample = torch.cat([torch.full((len(box),), i, device=box.device) for i, box in enumerate(boxes)])
        box = torch.cat(list(boxes))
        kept = on_grid(box, grid)
        box, sample = box[kept], sample[kept]
        radius = gaussian_radius(box[:, 3] / grid.cell, box[:, 4] / grid.cell).floor().clamp(min=GAUSSIAN_MIN_RADIUS)
        column, row = cells_from_metres(box, grid).long().unbind(dim=1)
        draw_gaussians(heat, sample, torch.zeros_like(sample), row, column, radius.long())
        return heat

    return mask


def nine_points(boxes: Tensor) -> Tensor:
    """Corners, middles of edges and centre of boxes (M, ≥ 7): x, y (M, 9, 2) in base_link [m]."""
    along = torch.stack([boxes[:, 6].cos(), boxes[:, 6].sin()], dim=1) * boxes[:, 3:4] / 2
    across = torch.stack([-boxes[:, 6].sin(), boxes[:, 6].cos()], dim=1) * boxes[:, 4:5] / 2
    return torch.stack([boxes[:, :2] + i * along + j * across for i in (-1, 0, 1) for j in (-1, 0, 1)], dim=1)

"""Targets and losses of the CenterHead."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vexkd_model.distributed import mean_count
from vexkd_model.geometry.bev_grid import cells_from_metres, flat_index, on_grid
from vexkd_model.heads.center import AXIS_CHANNELS, REGRESSION_CHANNELS, TaskMaps
from vexkd_model.types import BevGrid

MIN_OVERLAP = 0.1
MIN_RADIUS = 2
REGRESSION_WEIGHT = 0.25
FIELD_WEIGHTS = {"offset": 1.0, "height": 1.0, "size": 1.0, "heading": 1.0, "axis": 1.0, "velocity": 0.2}
NO_FACTORS: Mapping[str, float] = MappingProxyType({})
GROWTH = (0.25, 0.5)  # share of the training in which late weights grow


class TaskTargets(NamedTuple):
    """Targets of one task for a batch.

    heatmap: (B, classes, Y, X) in [0, 1]. sample, cell: (M,) where the M objects are: sample number and flat (Y, X)
    index. fields: name of a TaskMaps field → (M, channels); velocity is NaN where unknown.
    """

    heatmap: Tensor
    sample: Tensor
    cell: Tensor
    fields: dict[str, Tensor]


def center_targets(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], class_ids: Sequence[int], grid: BevGrid
) -> TaskTargets:
    """Compute the targets of the task that holds `class_ids`.

    boxes, labels: (M, 9) in base_link and (M,) of each sample in the batch. Boxes whose centre lies outside the grid
    are left out. Source: CenterPoint (Yin et al. 2021).
    """
    rows, columns = grid.shape
    sample = torch.cat([torch.full((len(b),), i, device=b.device) for i, b in enumerate(boxes)])
    box, label = torch.cat(list(boxes)), torch.cat(list(labels))
    of_task = torch.stack([label == c for c in class_ids])
    # Every mask that indexes makes the CPU wait for the GPU; positions do it once.
    kept = (of_task.any(dim=0) & on_grid(box, grid)).nonzero()[:, 0]
    box, sample, channel = box[kept], sample[kept], of_task[:, kept].int().argmax(dim=0)
    position = cells_from_metres(box, grid)
    column, row = position.long().unbind(dim=1)

    heatmap = box.new_zeros(len(boxes), len(class_ids), rows, columns)
    radius = gaussian_radius(box[:, 3] / grid.cell, box[:, 4] / grid.cell).floor().clamp(min=MIN_RADIUS).long()
    draw_gaussians(heatmap, sample, channel, row, column, radius)
    fields = {
        "offset": position - torch.stack([column, row], dim=1),
        **shape_fields(box),
        "axis": torch.stack([(2 * box[:, 6]).sin(), (2 * box[:, 6]).cos()], dim=1),
    }
    return TaskTargets(heatmap, sample, flat_index(position, grid.shape), fields)


def shape_fields(box: Tensor) -> dict[str, Tensor]:
    """Regression targets (M, ·) by field of boxes (M, 9): all of REGRESSION_CHANNELS but the offset."""
    return {
        "height": box[:, 2:3],
        "size": box[:, 3:6].log(),
        "heading": torch.stack([box[:, 6].sin(), box[:, 6].cos()], dim=1),
        "velocity": box[:, 7:9],
    }


def gaussian_radius(length: Tensor, width: Tensor, overlap: float = MIN_OVERLAP) -> Tensor:
    """Radius in cells within which a shifted box still has an IoU of `overlap`; length and width in cells.

    Source: CornerNet (Law & Deng 2018) with the published (b + √…)/2 for all three cases, as CenterPoint trains with.
    """
    perimeter, area = length + width, length * width
    cases = [
        (1.0, perimeter, area * (1 - overlap) / (1 + overlap)),
        (4.0, 2 * perimeter, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * perimeter, (overlap - 1) * area),
    ]
    return torch.stack([(b + (b * b - 4 * a * c).sqrt()) / 2 for a, b, c in cases]).amin(dim=0)


def draw_gaussians(
    heatmap: Tensor, sample: Tensor, channel: Tensor, row: Tensor, column: Tensor, radius: Tensor
) -> None:
    """Raise `heatmap` (B, K, Y, X), ≥ 0, in place, to a Gaussian of σ = (2r + 1)/6 cells around each object."""
    if not len(radius):
        return
    _, classes, rows, columns = heatmap.shape
    reach = torch.arange(-int(radius.max()), int(radius.max()) + 1, device=heatmap.device)
    dy, dx = (d[None] for d in torch.meshgrid(reach, reach, indexing="ij"))
    r, y, x = (value[:, None, None] for value in (radius, row, column))
    sigma = (2 * r + 1) / 6
    value = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    inside = (dx.abs() <= r) & (dy.abs() <= r) & (y + dy >= 0) & (y + dy < rows) & (x + dx >= 0) & (x + dx < columns)
    plane = (sample * classes + channel)[:, None, None]
    # What lies outside raises no cell: selecting what is inside would make the CPU wait for the GPU.
    index = ((plane * rows + y + dy) * columns + x + dx).clamp(0, heatmap.numel() - 1)
    value = value.where(inside, 0.0).to(heatmap.dtype)
    heatmap.view(-1).scatter_reduce_(0, index.flatten(), value.flatten(), "amax")


def center_loss(maps: TaskMaps, targets: TaskTargets, weights: Mapping[str, float] = NO_FACTORS) -> dict[str, Tensor]:
    """Compute the weighted losses of one task, to be summed: `heatmap` and one a regression field.

    weights: factors on the published weights of the fields.
    """
    losses = {"heatmap": gaussian_focal_loss(maps.heatmap, targets.heatmap)}
    objects = mean_count(torch.full((), len(targets.cell), device=targets.cell.device))
    for name in (*REGRESSION_CHANNELS, *(AXIS_CHANNELS if maps.axis is not None else ())):
        at_objects = getattr(maps, name).float().flatten(2)[targets.sample, :, targets.cell]
        loss = regression_loss(name, at_objects, targets.fields[name], objects)
        losses[name] = weights.get(name, 1.0) * loss
    return losses


def late_factors(late: Mapping[str, float], progress: float) -> dict[str, float]:
    """Interpolate the factors on field weights from 1 to those of `late`, by the share `progress` of the training.

    Larger weights from the first step cost detections: where nothing is found yet, there is no heading to learn.
    """
    start, end = GROWTH
    share = min(max((progress - start) / (end - start), 0.0), 1.0)
    return {name: 1 + (factor - 1) * share for name, factor in late.items()}


def regression_loss(name: str, predicted: Tensor, target: Tensor, objects: Tensor) -> Tensor:
    """Weighted absolute error of one field, both (M, channels), per matched object; NaN in the target costs nothing.

    objects: their `mean_count`.
    """
    known = torch.isfinite(target)
    error = (predicted - torch.where(known, target, 0.0)).abs() * known
    return REGRESSION_WEIGHT * FIELD_WEIGHTS[name] * error.sum() / objects


def gaussian_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss on a heatmap, divided by the number of objects.

    Source: CornerNet (Law & Deng 2018), equation 1, α = 2, β = 4. In logits, so that it is finite at saturation.
    """
    logits = logits.float()
    probability, log_yes, log_no = logits.sigmoid(), functional.logsigmoid(logits), functional.logsigmoid(-logits)
    centre = target == 1
    loss = torch.where(centre, -log_yes * (1 - probability) ** 2, -log_no * probability**2 * (1 - target) ** 4)
    return loss.sum() / mean_count(centre.sum())

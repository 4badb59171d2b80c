"""Targets and losses of the TransFusionHead: each object is matched with one proposal, and the pairs are compared.

Source: TransFusion (Bai et al., CVPR 2022) with BEVFusion's weights; matching as in DETR (Carion et al., ECCV 2020).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from vexkd_model.distributed import mean_count
from vexkd_model.geometry.bev_grid import cell_of_index, cells_from_metres, on_grid
from vexkd_model.geometry.nms import iou_3d
from vexkd_model.heads.center import REGRESSION_CHANNELS
from vexkd_model.heads.center_loss import center_targets, gaussian_focal_loss, regression_loss, shape_fields
from vexkd_model.heads.decode import proposal_boxes
from vexkd_model.heads.transfusion import CLASSES, TransFusionOutput
from vexkd_model.types import BevGrid

FOCAL_GAMMA, FOCAL_ALPHA = 2.0, 0.25
CLASS_COST, CENTRE_COST, IOU_COST = 0.15, 0.25, 0.25
IMPOSSIBLE_COST = 1e6


class TransFusionTargets(NamedTuple):
    """Targets of the proposals of a batch.

    heatmap: (B, 10, Y, X) in [0, 1]. sample, proposal, label: int64 (M,), the M matched proposals and their classes;
    the others should see nothing. fields: name of a TransFusionOutput field → (M, channels); velocity is NaN where
    unknown.
    """

    heatmap: Tensor
    sample: Tensor
    proposal: Tensor
    label: Tensor
    fields: dict[str, Tensor]


def transfusion_targets(
    output: TransFusionOutput, boxes: Sequence[Tensor], labels: Sequence[Tensor], grid: BevGrid
) -> TransFusionTargets:
    """Match the proposals with the boxes of the batch, and compute their targets.

    boxes, labels: (M, 9) in base_link and (M,) of each sample in the batch. Boxes whose centre lies outside the grid
    are left out; of more boxes than proposals the best fitting are matched.
    """
    proposed = proposal_boxes(output, grid).detach()
    heatmap = center_targets(boxes, labels, range(CLASSES), grid).heatmap
    sample, proposal, box, label = [], [], [], []
    for i, (values, classes) in enumerate(zip(boxes, labels, strict=True)):
        inside = on_grid(values, grid).nonzero()[:, 0]
        values, classes = values[inside], classes[inside]
        chosen, target = match(matching_cost(output.logits[i].detach(), proposed[i], values, classes, grid))
        sample.append(torch.full_like(chosen, i))
        proposal.append(chosen)
        box.append(values[target])
        label.append(classes[target])
    sample, proposal, box, label = (torch.cat(part) for part in (sample, proposal, box, label))

    cell_centre = cell_of_index(output.cell[sample, proposal], grid.shape) + 0.5
    fields = {"offset": cells_from_metres(box, grid) - cell_centre, **shape_fields(box)}
    return TransFusionTargets(heatmap, sample, proposal, label, fields)


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Find the pairs of least total cost (P, M), each row and column used once.

    Returns rows and columns, int64 (min(P, M),) each. Source: the Hungarian matching of DETR.
    """
    rows, columns = linear_sum_assignment(cost.double().cpu().numpy())
    return torch.as_tensor(rows, device=cost.device), torch.as_tensor(columns, device=cost.device)


def matching_cost(logits: Tensor, proposed: Tensor, boxes: Tensor, labels: Tensor, grid: BevGrid) -> Tensor:
    """Compute the cost (P, M) of assigning each proposal to each object.

    logits: (P, 10). proposed: (P, 9). boxes: (M, 9). labels: (M,). Costs are the change in focal loss; the distance of
    the centres, |Δx| + |Δy| as shares of the grid's sides; and the 3D IoU, negative.
    """
    own_class = logits.float()[:, labels]
    focal = focal_loss(own_class, torch.ones_like(own_class)) - focal_loss(own_class, torch.zeros_like(own_class))
    sides = boxes.new_tensor([grid.x_max - grid.x_min, grid.y_max - grid.y_min])
    distance = torch.cdist(proposed[:, :2] / sides, boxes[:, :2] / sides, p=1)
    cost = CLASS_COST * focal + CENTRE_COST * distance - IOU_COST * iou_3d(proposed, boxes)
    # A model that diverges should be reported by its loss, not by the solver.
    return cost.nan_to_num(IMPOSSIBLE_COST, IMPOSSIBLE_COST, IMPOSSIBLE_COST)


def transfusion_loss(output: TransFusionOutput, targets: TransFusionTargets) -> dict[str, Tensor]:
    """Compute the weighted losses, to be summed: `heatmap`, `class` and one a regression field."""
    where = (targets.sample, targets.proposal)
    is_class = torch.zeros_like(output.logits, dtype=torch.float32)
    is_class[(*where, targets.label)] = 1.0
    objects = mean_count(torch.full((), len(targets.label), device=targets.label.device))
    losses = {
        "heatmap": gaussian_focal_loss(output.heatmap, targets.heatmap),
        "class": focal_loss(output.logits.float(), is_class).sum() / objects,
    }
    for name in REGRESSION_CHANNELS:
        losses[name] = regression_loss(name, getattr(output, name).float()[where], targets.fields[name], objects)
    return losses


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the focal loss of each element, in the shape of both. Source: Lin et al., ICCV 2017, eq. 5."""
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrongness = (logits.sigmoid() - target).abs()
    balance = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return balance * wrongness**FOCAL_GAMMA * cross_entropy

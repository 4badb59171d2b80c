"""TransFusionHead's proposals → boxes. No suppression: queries attend to each other and learn not to repeat."""

import torch
from torch import Tensor

from vexkd_model.geometry.bev_grid import cell_of_index, metres_from_cells
from vexkd_model.heads.center_decode import near_grid
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.types import BevGrid


def decode_transfusion(output: TransFusionOutput, grid: BevGrid, score_threshold: float,
                       max_detections: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 9), scores (M,), labels (M,) of a batch of one, best first.

    A proposal speaks only for the class whose peak it stands on; its score is that class's probability times the
    heatmap's at the peak.
    """
    boxes, label = proposal_boxes(output, grid)[0], output.label[0]
    own_class = output.logits[0].float().sigmoid().gather(1, label[:, None])[:, 0]
    scores = own_class * output.score[0]
    wanted = ((scores >= score_threshold) & near_grid(boxes, grid)).nonzero()[:, 0]
    best = wanted[scores[wanted].argsort(descending=True, stable=True)[:max_detections]]
    return boxes[best], scores[best], label[best]


def proposal_boxes(output: TransFusionOutput, grid: BevGrid) -> Tensor:
    """float32 (B, P, 9): the box of every proposal, whatever its score."""
    offset, height, size, heading, velocity = (field.float() for field in output[5:])
    centre = metres_from_cells(cell_of_index(output.cell, grid.shape) + 0.5 + offset, grid)
    yaw = torch.atan2(heading[..., :1], heading[..., 1:])
    return torch.cat([centre, height, size.exp(), yaw, velocity], dim=2)

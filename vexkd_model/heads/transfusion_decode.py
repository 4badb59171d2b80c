"""Decoder of TransFusionHead proposals. No suppression: queries attend to each other and learn not to repeat."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vexkd_model.geometry.bev_grid import cell_of_index, metres_from_cells
from vexkd_model.heads.center_decode import Detections, near_grid
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.types import BevGrid


@dataclass(frozen=True)
class TransFusionDecoder:
    """Proposals of a batch of one → at most `max_detections` Detections.

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

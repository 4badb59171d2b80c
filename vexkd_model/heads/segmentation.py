"""SegmentationHead: BEV map segmentation from the high-level map, and its loss.

Source: BEVFusion (Liu et al., ICRA 2023): grid transform, two convolutions, one binary map a class, focal loss.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vexkd_model.distributed import mean_count
from vexkd_model.geometry.bev_grid import centres_in_cells, metres_from_cells, sample_from_metres
from vexkd_model.layers import conv_bn_relu
from vexkd_model.types import MAP_CLASSES, BevGrid

FOCAL_GAMMA = 2.0


class SegmentationHead(nn.Module):
    """Segmentation head: (B, C, Y, X) on `feature_grid` → logits (B, 6, Y', X') on `map_grid`, which is in base_link.

    network_from_base: to the frame of `feature_grid`, where that is not base_link; features are then sampled where the
    map's cells lie in it. sample_late: the first of the three convolutions works on the features' grid, and its output
    is sampled at the map's cells; False, as published: the features are sampled first.
    """

    sampling: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: int,
        feature_grid: BevGrid,
        map_grid: BevGrid,
        sample_late: bool = False,
        network_from_base: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.sample_late = sample_late
        self.register_buffer("sampling", sampling_grid(feature_grid, map_grid, network_from_base), persistent=False)
        self.layers = nn.Sequential(
            conv_bn_relu(in_channels, channels),
            conv_bn_relu(channels, channels),
            nn.Conv2d(channels, len(MAP_CLASSES), 1),
        )

    def forward(self, high: Tensor) -> Tensor:
        if self.sample_late:
            return self.layers[1:](self._sampled(self.layers[0](high)))
        return self.layers(self._sampled(high))

    def _sampled(self, features: Tensor) -> Tensor:
        # In the positions' precision: bfloat16 positions would be off by up to 0.1 m.
        sampling = self.sampling.expand(len(features), -1, -1, -1)
        return functional.grid_sample(features.to(sampling.dtype), sampling, mode="bilinear", align_corners=False)


def sampling_grid(source: BevGrid, target: BevGrid, source_from_target: np.ndarray | None = None) -> Tensor:
    """Compute the target's cell centres in `grid_sample` coordinates of the source map, (1, Y, X, 2).

    source_from_target: rigid transform (4, 4) of the grids' frames, None where they share one; the target's cells lie
    at z = 0.
    """
    centres = metres_from_cells(centres_in_cells(target.shape).double(), target)
    if source_from_target is not None:
        matrix = torch.from_numpy(source_from_target)
        centres = centres @ matrix[:2, :2].T + matrix[:2, 3]
    return sample_from_metres(centres, source)[None].float()


def segmentation_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Compute the focal loss without class weights (Lin et al. 2017, eq. 4): mean over known cells, sum over classes.

    logits: (B, 6, Y, X). target: the same shape, 0 or 1. known: bool (B, Y, X), False where the map is unknown.
    """
    logits = logits.float()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrongness = torch.abs(torch.sigmoid(logits) - target)
    loss = wrongness**FOCAL_GAMMA * cross_entropy * known[:, None]
    return loss.sum(dim=(0, 2, 3)).div(mean_count(known.sum())).sum()

"""SECOND's BEV encoder: low-level → high-level BEV map.

Source: the backbone and neck of SECOND and PointPillars (Yan et al. 2018; Lang et al. 2019): stages of plain
convolutions, each stage brought back to the input's resolution and concatenated.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vexkd_model.layers import BEV_EPS, conv_bn_relu


class BevEncoder(nn.Module):
    """BEV encoder: (B, in_channels, Y, X) → (B, lateral_channels · stages, Y, X) on the same grid.

    Stage i works at 1/2^i of the resolution; Y and X need not be divisible, the upsampled maps are cropped.
    """

    def __init__(
        self, in_channels: int, stage_channels: Sequence[int], stage_layers: Sequence[int], lateral_channels: int
    ) -> None:
        super().__init__()
        self.channels = lateral_channels * len(stage_channels)
        self.stages, self.laterals = nn.ModuleList(), nn.ModuleList()
        for i, (channels, layers) in enumerate(zip(stage_channels, stage_layers, strict=True)):
            blocks = [conv_bn_relu(in_channels, channels, stride=1 if i == 0 else 2)]
            blocks += [conv_bn_relu(channels, channels) for _ in range(layers - 1)]
            self.stages.append(nn.Sequential(*blocks))
            self.laterals.append(
                nn.Sequential(
                    nn.ConvTranspose2d(channels, lateral_channels, 2**i, stride=2**i, bias=False),
                    nn.BatchNorm2d(lateral_channels, eps=BEV_EPS),
                    nn.ReLU(inplace=True),
                )
            )
            in_channels = channels

    def forward(self, low: Tensor) -> Tensor:
        rows, columns = low.shape[-2:]
        levels, x = [], low
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            levels.append(lateral(x)[..., :rows, :columns])
        return torch.cat(levels, dim=1)

"""BEVDet's BEV encoder: low-level → high-level BEV map.

Source: BEVDet (Huang et al. 2021) and its public code: residual stages at half the resolution each, of which the first
and the last are joined and brought back to the input's resolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vexkd_model.layers import BasicBlock, conv_bn_relu


class ResNetBevEncoder(nn.Module):
    """Residual BEV encoder: (B, in_channels, Y, X) → (B, out_channels, Y, X); Y and X need not be divisible.

    Published: 64 → stages of 128, 256, 512 channels with 2 blocks each → 256.
    """

    def __init__(
        self, in_channels: int, stage_channels: Sequence[int], stage_blocks: Sequence[int], out_channels: int
    ) -> None:
        super().__init__()
        if len(stage_channels) < 2:
            raise ValueError(f"{len(stage_channels)} stage: the first and the last are joined, give two or more")
        self.channels = out_channels
        self.stages = nn.ModuleList()
        for channels, blocks in zip(stage_channels, stage_blocks, strict=True):
            same = [BasicBlock(channels, channels) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(BasicBlock(in_channels, channels, stride=2), *same))
            in_channels = channels
        self.join = nn.Sequential(
            conv_bn_relu(stage_channels[0] + stage_channels[-1], 2 * out_channels),
            conv_bn_relu(2 * out_channels, 2 * out_channels),
        )
        self.output = nn.Sequential(
            conv_bn_relu(2 * out_channels, out_channels), nn.Conv2d(out_channels, out_channels, 1)
        )

    def forward(self, low: Tensor) -> Tensor:
        maps, x = [], low
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        joined = self.join(torch.cat([maps[0], upsampled_to(maps[0], x)], dim=1))
        return self.output(upsampled_to(low, joined))


def upsampled_to(like: Tensor, x: Tensor) -> Tensor:
    """Upsample x (B, C, y, x), bilinear, to the height and width of `like` (B, ·, Y, X)."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)

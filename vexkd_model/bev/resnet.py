"""BEVDet's BEV encoder: low-level → high-level BEV map.

Source: BEVDet (Huang et al. 2021) and its public code: residual stages at half the resolution each, of which the first
and the last are joined and brought back to the input's resolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vexkd_model.bev.encoder import conv_bn_relu


class ResNetBevEncoder(nn.Module):
    """(B, in_channels, Y, X) → (B, out_channels, Y, X) on the same grid; Y and X need not be divisible.

    Published: 64 → stages of 128, 256, 512 channels with 2 blocks each → 256.
    """

    def __init__(self, in_channels: int, stage_channels: Sequence[int], stage_blocks: Sequence[int],
                 out_channels: int) -> None:
        super().__init__()
        if len(stage_channels) < 2:
            raise ValueError(f"{len(stage_channels)} stage: the first and the last are joined, give two or more")
        self.channels = out_channels
        self.stages = nn.ModuleList()
        for channels, blocks in zip(stage_channels, stage_blocks, strict=True):
            same = [BasicBlock(channels, channels) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(BasicBlock(in_channels, channels, stride=2), *same))
            in_channels = channels
        self.join = nn.Sequential(conv_bn_relu(stage_channels[0] + stage_channels[-1], 2 * out_channels),
                                  conv_bn_relu(2 * out_channels, 2 * out_channels))
        self.output = nn.Sequential(conv_bn_relu(2 * out_channels, out_channels),
                                    nn.Conv2d(out_channels, out_channels, 1))

    def forward(self, low: Tensor) -> Tensor:
        maps, x = [], low
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        joined = self.join(torch.cat([maps[0], upsampled_to(maps[0], x)], dim=1))
        return self.output(upsampled_to(low, joined))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside the identity, or beside another one where the size changes.

    (B, in_channels, Y, X) → (B, out_channels, ⌈Y / stride⌉, ⌈X / stride⌉); a stride of 1 keeps in_channels. Source:
    He et al. (CVPR 2016), figure 2; the 3×3 shortcut without a norm is BEVDet's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn_relu(in_channels, out_channels, stride),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels, eps=1e-3))
        self.shortcut = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.layers(x) + self.shortcut(x)).relu()


def upsampled_to(like: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)

"""Necks: a backbone's feature maps → maps of one width. Three of them, as published; no layer of them is unused.

Each takes the maps of a backbone's asked stages, fine to coarse: one (M, in_channels[i], h_i, w_i) each; and gives a
list, fine to coarse.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vexkd_model.layers import IMAGE_EPS, conv_bn_relu


class FPN(nn.Module):
    """FPN: a map (M, out_channels, h_i, w_i) for each of the maps, then extra_levels more, each half the one before.

    Source: Lin et al. (CVPR 2017), figure 3. BEVFormer (Li et al., ECCV 2022) takes stages 2, 3, 4 and an extra level
    to 256: strides 8, 16, 32, 64.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, extra_levels: int = 0) -> None:
        super().__init__()
        self.top_down = TopDown(in_channels, out_channels)
        self.outputs = nn.ModuleList(conv(out_channels, out_channels, 3) for _ in in_channels)
        self.extras = nn.ModuleList(conv(out_channels, out_channels, 3, stride=2) for _ in range(extra_levels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = [output(x) for output, x in zip(self.outputs, self.top_down(maps), strict=True)]
        for i, extra in enumerate(self.extras):
            levels.append(extra(levels[-1] if i == 0 else levels[-1].relu()))
        return levels


class FinestFPN(nn.Module):
    """FPN's finest level alone, [(M, out_channels, h_0, w_0)].

    Source: BEVDet (Huang et al. 2021), public code: stages 3 and 4 to one map of 256 at stride 16.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.top_down = TopDown(in_channels, out_channels)
        self.output = conv(out_channels, out_channels, 3)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [self.output(self.top_down(maps)[0])]


class ConcatFPN(nn.Module):
    """Neck that concatenates, to one map, [(M, out_channels, h_0, w_0)].

    From the coarsest map on: upsample, concatenate with the next finer one, convolve.
    Source: BEVFusion (Liu et al., ICRA 2023), public code (GeneralizedLSSFPN): Swin-T's stages 2, 3, 4 to 256 at stride
    8. Its map at stride 16 is on the way to that one.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        from_above = [*[out_channels] * (len(in_channels) - 2), in_channels[-1]]
        self.joins = nn.ModuleList(
            nn.Sequential(
                conv_bn_relu(own + above, out_channels, 1, eps=IMAGE_EPS),
                conv_bn_relu(out_channels, out_channels, eps=IMAGE_EPS),
            )
            for own, above in zip(in_channels[:-1], from_above, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        x = maps[-1]
        for own, join in zip(reversed(maps[:-1]), reversed(self.joins), strict=True):
            x = F.interpolate(x, size=own.shape[-2:], mode="bilinear", align_corners=False)
            x = join(torch.cat([own, x], dim=1))
        return [x]


class TopDown(nn.Module):
    """Top-down path: each map, brought to out_channels by a 1×1 convolution, plus all coarser ones at its own size."""

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv(channels, out_channels, 1) for channels in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + F.interpolate(levels[i], size=levels[i - 1].shape[-2:], mode="nearest")
        return levels


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Make an FPN's convolution: with a bias, without norm or ReLU; Xavier-uniform, as in the public detectors."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer

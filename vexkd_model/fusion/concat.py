"""Fusion by concatenation: the baseline that VeXKD's own fusion replaces.

Source: BEVFusion (Liu et al., ICRA 2023): both maps side by side, one 3×3 convolution, batch norm, ReLU.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vexkd_model.layers import conv_bn_relu


class ConcatFusion(nn.Module):
    """Concatenation: maps (B, in_channels of the sensor, Y, X) on one grid → (B, channels, Y, X).

    The map of a sensor that is missing is zero.
    """

    query = None  # no learned queries, unlike ModalityGeneralFusion

    def __init__(self, in_channels: Mapping[str, int], channels: int) -> None:
        super().__init__()
        self.in_channels, self.channels = dict(in_channels), channels
        self.merge = conv_bn_relu(sum(in_channels.values()), channels)

    def forward(self, maps: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Fuse maps by sensor, of which one may be missing; present: bool (B,) by sensor, whether it saw anything."""
        some = next(iter(maps.values()))
        side_by_side = [
            maps[sensor] * present[sensor].view(-1, 1, 1, 1)
            if sensor in maps
            else some.new_zeros(len(some), channels, *some.shape[2:])
            for sensor, channels in self.in_channels.items()
        ]
        return self.merge(torch.cat(side_by_side, dim=1))

"""Fusion by concatenation: the baseline that VeXKD's own fusion replaces.

Source: BEVFusion (Liu et al., ICRA 2023): both maps side by side, one 3×3 convolution, batch norm, ReLU.
"""

import torch
from torch import Tensor, nn

from vexkd_model.bev.encoder import conv_bn_relu


class ConcatFusion(nn.Module):
    """LiDAR map (B, C_lidar, Y, X) and camera map (B, C_camera, Y, X) on one grid → (B, channels, Y, X)."""

    def __init__(self, lidar_channels: int, camera_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.merge = conv_bn_relu(lidar_channels + camera_channels, channels)

    def forward(self, lidar: Tensor, camera: Tensor) -> Tensor:
        return self.merge(torch.cat([lidar, camera], dim=1))

"""Depth nets: image features → logits over depth bins and the context that is lifted, at each feature cell.

Three of them, as published: PlainDepthNet (BEVDet), CameraAwareDepthNet (BEVDepth), LidarDepthNet (BEVFusion). All take
features (B, N, C_in, h, w) and the cameras that they are of, and give a DepthAndContext.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vexkd_model.data.batch import CameraBatch
from vexkd_model.layers import IMAGE_EPS, BasicBlock, BatchNorm1d, conv_bn_relu

CAMERA_NUMBERS = 6 + 6 + 12  # of `camera_vectors`


class DepthAndContext(NamedTuple):
    """Output of a depth net. logits: (B, N, D, h, w) of depth probabilities. context: (B, N, C, h, w)."""

    logits: Tensor
    context: Tensor


class PlainDepthNet(nn.Module):
    """Depth net of one 1×1 convolution. Source: BEVDet (Huang et al. 2021), after Philion & Fidler (2020)."""

    def __init__(self, in_channels: int, bins: int, channels: int) -> None:
        super().__init__()
        self.sizes = [bins, channels]
        self.layer = nn.Conv2d(in_channels, bins + channels, 1)

    def forward(self, features: Tensor, cameras: CameraBatch) -> DepthAndContext:
        both = self.layer(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return DepthAndContext(*both.split(self.sizes, dim=2))


class CameraAwareDepthNet(nn.Module):
    """Depth net that knows the camera: through a longer lens, what looks the same is farther away.

    Source: BEVDepth (Li et al., AAAI 2023) and its public code. Two changes: the deformable convolution before the last
    layer, which PyTorch lacks, is a plain 3×3 convolution in the same 4 groups, so hidden_channels divide by 4; and the
    camera's 27 numbers are 24, as base_from_camera holds the BEV augmentation.
    """

    def __init__(self, in_channels: int, hidden_channels: int, bins: int, channels: int) -> None:
        super().__init__()
        hidden = hidden_channels
        self.reduce = conv_bn_relu(in_channels, hidden, eps=IMAGE_EPS)
        # A wide epsilon: a number that hardly varies in training must not decide on another vehicle.
        self.norm = BatchNorm1d(CAMERA_NUMBERS, eps=1e-3)
        self.depth_gate, self.context_gate = CameraGate(hidden), CameraGate(hidden)
        self.context = nn.Conv2d(hidden, channels, 1)
        self.depth = nn.Sequential(
            *(BasicBlock(hidden, hidden, eps=IMAGE_EPS) for _ in range(3)),
            Aspp(hidden),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=4, bias=False),
            nn.Conv2d(hidden, bins, 1),
        )

    def forward(self, features: Tensor, cameras: CameraBatch) -> DepthAndContext:
        views = features.shape[:2]
        camera = self.norm(camera_vectors(cameras).flatten(0, 1))
        reduced = self.reduce(features.flatten(0, 1))
        logits = self.depth(self.depth_gate(reduced, camera))
        context = self.context(self.context_gate(reduced, camera))
        return DepthAndContext(logits.unflatten(0, views), context.unflatten(0, views))


class LidarDepthNet(nn.Module):
    """Depth net that also reads LiDAR returns. Source: BEVFusion (Liu et al., ICRA 2023), public code.

    stride: pixels a feature cell, 8 as published, or 16 by one convolution more.
    """

    def __init__(self, in_channels: int, bins: int, channels: int, stride: int) -> None:
        super().__init__()
        if stride not in (8, 16):
            raise ValueError(f"a depth image is brought to stride 8 or 16, not {stride}")
        self.sizes = [bins, channels]
        self.returns = nn.Sequential(
            conv_bn_relu(1, 8, 1, eps=IMAGE_EPS),
            conv_bn_relu(8, 32, 5, stride=4, eps=IMAGE_EPS),
            conv_bn_relu(32, 64, 5, stride=2, eps=IMAGE_EPS),
        )
        if stride == 16:
            self.returns.append(conv_bn_relu(64, 64, 5, stride=2, eps=IMAGE_EPS))
        self.layers = nn.Sequential(
            conv_bn_relu(in_channels + 64, in_channels, eps=IMAGE_EPS),
            conv_bn_relu(in_channels, in_channels, eps=IMAGE_EPS),
            nn.Conv2d(in_channels, bins + channels, 1),
        )

    def forward(self, features: Tensor, cameras: CameraBatch, depth: Tensor) -> DepthAndContext:
        """Predict from features (B, N, C_in, h, w) and `depth_images` (B, N, H, W) [m]."""
        returns = self.returns(depth.flatten(0, 1)[:, None])
        both = self.layers(torch.cat([returns, features.flatten(0, 1)], dim=1)).unflatten(0, features.shape[:2])
        return DepthAndContext(*both.split(self.sizes, dim=2))


def camera_vectors(cameras: CameraBatch) -> Tensor:
    """Describe each camera to a depth net, float32 (B, N, 24), each number about one in size.

    Intrinsics of the network's image and its resize, crop and augmentation, both as 2×3 and in image sizes; then
    base_from_camera as 3×4, in metres.
    """
    height, width = cameras.images.shape[-2:]
    size = cameras.base_from_camera.new_tensor([width, height])
    intrinsics = cameras.image_from_camera[..., :2, :] / size[:, None]
    turned, moved = cameras.image_from_stored[..., :2, :2], cameras.image_from_stored[..., :2, 2] / size
    mounting = cameras.base_from_camera[..., :3, :]
    return torch.cat([part.flatten(2) for part in (intrinsics, turned, moved, mounting)], dim=-1)


class CameraGate(nn.Module):
    """Squeeze-and-excitation whose squeeze is the camera: a map (M, C, h, w) and vectors (M, 24) → (M, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(CAMERA_NUMBERS, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels)
        )
        self.excite = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels))

    def forward(self, x: Tensor, camera: Tensor) -> Tensor:
        return x * self.excite(self.embed(camera)).sigmoid()[..., None, None]


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling, (M, C, h, w) → the same shape. Source: DeepLabv3 (Chen et al. 2017), figure 5."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_bn_relu(channels, channels, 1, eps=IMAGE_EPS),
                *(conv_bn_relu(channels, channels, dilation=d, eps=IMAGE_EPS) for d in (6, 12, 18)),
            ]
        )
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn_relu(channels, channels, 1, eps=IMAGE_EPS))
        self.join = nn.Sequential(conv_bn_relu(5 * channels, channels, 1, eps=IMAGE_EPS), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([*(branch(x) for branch in self.branches), self.whole(x).expand_as(x)], dim=1))

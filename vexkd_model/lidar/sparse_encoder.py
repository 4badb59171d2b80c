"""Sparse voxel encoder: a point cloud → the low-level BEV map.

Source: the middle encoder of SECOND (Yan et al. 2018) with residual blocks, as in CenterPoint (Yin et al. 2021) and
published in mmdetection3d: (16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128) channels, stride 8.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vexkd_model.lidar.pillars import GREATEST_INTENSITY, POINT_SCALE
from vexkd_model.lidar.sparse_conv import Backend, SparseConv3d, SparseMap, SubmanifoldConv3d
from vexkd_model.lidar.voxels import VoxelMeans
from vexkd_model.types import BevGrid


class VoxelEncoder(nn.Module):
    """Voxel encoder: points (N, 5) with their sample's number (N,) → float32 (B, channels, Y, X) on `grid`.

    voxel, voxel_z: length and width, and height of a voxel [m]. Every stage after the first halves the resolution:
    grid.cell = voxel · 2^(stages − 1). Cell (j, i) looks around voxel (2^(stages − 1) · j, … · i), the first of those
    that it covers, as every strided convolution of this padding does; its field of view reaches far beyond the cell.
    """

    def __init__(
        self,
        grid: BevGrid,
        voxel: float,
        voxel_z: float,
        z_min: float,
        z_max: float,
        stage_channels: Sequence[int] = (16, 32, 64, 128),
        out_channels: int = 128,
        backend: Backend | None = None,
        intensity_max: float = GREATEST_INTENSITY,
    ) -> None:
        super().__init__()
        stride = 2 ** (len(stage_channels) - 1)
        if abs(grid.cell / (voxel * stride) - 1) > 1e-6:
            raise ValueError(
                f"{len(stage_channels)} stages turn voxels of {voxel} m into cells of {voxel * stride} m, "
                f"not of {grid.cell} m"
            )
        self.voxels = VoxelMeans(replace(grid, cell=voxel), voxel_z, z_min, z_max, intensity_max)
        stages, before, shape = [], len(POINT_SCALE), self.voxels.shape
        for i, channels in enumerate(stage_channels):
            if i == 0:
                conv = SubmanifoldConv3d(before, channels, backend=backend)
            else:
                # As published: layers of height are saved at the last stride, not at those before it.
                height = _height_padding(shape[0]) if i == len(stage_channels) - 1 else 1
                conv = SparseConv3d(before, channels, (3, 3, 3), (2, 2, 2), (height, 1, 1), backend)
                shape = conv.out_shape(shape)
            stages.append(
                nn.Sequential(
                    ConvNormRelu(conv, channels), ResidualBlock(channels, backend), ResidualBlock(channels, backend)
                )
            )
            before = channels
        self.stages = nn.Sequential(*stages)
        flat = SparseConv3d(before, out_channels, (3, 1, 1), (2, 1, 1), (_height_padding(shape[0]), 0, 0), backend)
        self.flatten = ConvNormRelu(flat, out_channels)
        self.channels = out_channels * flat.out_shape(shape)[0]

    def forward(self, points: Tensor, sample: Tensor, batch_size: int) -> Tensor:
        """Encode points (N, 5) of base_link in the order of POINT_FIELDS; sample: int64 (N,), each point's frame."""
        features, coordinates = self.voxels(points, sample)
        x = self.stages(SparseMap(features, coordinates, self.voxels.shape, batch_size))
        return fold_height(self.flatten(x))


class ConvNormRelu(nn.Module):
    """Sparse convolution, batch norm, ReLU: SparseMap → SparseMap."""

    def __init__(self, conv: SubmanifoldConv3d | SparseConv3d, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = conv, _norm(channels)

    def forward(self, x: SparseMap) -> SparseMap:
        x = self.conv(x)
        return x.with_features(torch.relu_(_normalised(self.norm, x.features)))


class ResidualBlock(nn.Module):
    """Residual block of two 3×3×3 submanifold convolutions."""

    def __init__(self, channels: int, backend: Backend | None = None) -> None:
        super().__init__()
        self.first = ConvNormRelu(SubmanifoldConv3d(channels, channels, backend=backend), channels)
        self.conv, self.norm = SubmanifoldConv3d(channels, channels, backend=backend), _norm(channels)

    def forward(self, x: SparseMap) -> SparseMap:
        residual = _normalised(self.norm, self.conv(self.first(x)).features)
        return x.with_features(torch.relu_(residual + x.features))


def fold_height(x: SparseMap) -> Tensor:
    """Fold height into channels, (B, C · Z, Y, X): channel c at height k becomes c · Z + k; zero without a voxel."""
    depth, rows, columns = x.shape
    sample, z, row, column = x.coordinates.unbind(1)
    canvas = x.features.new_zeros(x.batch_size * rows * columns, x.features.shape[1], depth)
    canvas[(sample * rows + row) * columns + column, :, z] = x.features
    # NHWC memory is what was written, and what CPU and tensor-core convolutions like best.
    return canvas.view(x.batch_size, rows, columns, -1).permute(0, 3, 1, 2)


def _height_padding(layers: int) -> int:
    """Padding of height: 0 where a kernel of 3 with stride 2 meets every layer without it (11 → 5 → 2), else 1."""
    return 0 if layers >= 3 and layers % 2 else 1


def _norm(channels: int) -> _BatchNorm:
    return nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)


def _normalised(norm: _BatchNorm, features: Tensor) -> Tensor:
    """Batch norm; fewer than two voxels have no variance: the running statistics serve them in training, too.

    A norm over several processes, which is no BatchNorm1d, counts the voxels of all of them.
    """
    if norm.training and (len(features) >= 2 or not isinstance(norm, nn.BatchNorm1d)):
        return norm(features)
    # Written out: PyTorch's batch norm branches on the number of voxels, which torch.export cannot trace.
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return features * scale + (norm.bias - mean * scale)

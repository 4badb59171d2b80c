"""Mean voxels: a point cloud → the mean of the points in each voxel that holds any.

Source: the mean VFE of SECOND and CenterPoint (Yan et al. 2018; Yin et al. 2021) with dynamic voxelisation (Zhou et
al., 2019): every point counts, no limit of points a voxel or of voxels.
"""

import torch
from torch import Tensor, nn

from vexkd_model.geometry.bev_grid import axis_cells_from_metres
from vexkd_model.lidar.pillars import GREATEST_INTENSITY, point_scales
from vexkd_model.types import BevGrid

Triple = tuple[int, int, int]  # along z, y, x


class VoxelMeans(nn.Module):
    """Mean VFE: points (N, 5) in the order of POINT_FIELDS with their sample's number (N,) → occupied voxels.

    grid: its cell is the voxel's length and width [m]; voxel_z: its height [m]; z in [z_min, z_max).
    shape: (Z, Y, X) in voxels, with one layer more on top, always empty, as published: 41 of 40.

    Means are scaled to about ±1. The published encoder takes metres and intensities up to 255 as they are, which its
    first batch norm corrects in the end, but until then intensity dominates the first layer's input. Published
    weights fit once the first layer's are divided by POINT_SCALE.
    """

    count: Tensor
    minimum: Tensor
    size: Tensor
    point_scale: Tensor

    def __init__(
        self, grid: BevGrid, voxel_z: float, z_min: float, z_max: float, intensity_max: float = GREATEST_INTENSITY
    ) -> None:
        super().__init__()
        layers = (z_max - z_min) / voxel_z
        if layers < 1 or abs(layers - round(layers)) > 1e-6:
            raise ValueError(f"the z range {z_min} … {z_max} m does not divide into voxels of {voxel_z} m")
        self.shape = (round(layers) + 1, *grid.shape)
        self.register_buffer("count", torch.tensor([round(layers), *grid.shape]), persistent=False)
        self.register_buffer("minimum", torch.tensor([z_min, grid.y_min, grid.x_min]), persistent=False)
        self.register_buffer("size", torch.tensor([voxel_z, grid.cell, grid.cell]), persistent=False)
        self.register_buffer("point_scale", torch.tensor(point_scales(intensity_max)), persistent=False)

    def forward(self, points: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features float32 (V, 5) and coordinates int64 (V, 4) sample, z, y, x of V voxels.

        Features are means of x / 54 m, y / 54 m, z / 5 m, intensity / 64 of 255 and dt / 0.5 s (POINT_SCALE). Voxels
        ascend in sample, z, y, x. Points out of range or with anything not finite are dropped.
        """
        index = axis_cells_from_metres(points[:, [2, 1, 0]], self.minimum, self.size).floor()
        # Compared as floats: what an integer makes of NaN or 1e30 depends on the processor.
        inside = ((index >= 0) & (index < self.count)).all(dim=1) & points.isfinite().all(dim=1)
        kept = inside.nonzero()[:, 0]  # once: each mask that indexes makes the CPU wait for the GPU
        z, y, x = index[kept].long().unbind(1)
        numbers, voxel = torch.unique(voxel_number(sample[kept], z, y, x, self.shape), return_inverse=True)
        scaled = points[kept] * self.point_scale
        sums = scaled.new_zeros(numbers.shape[0], 6)  # not len(): torch.export counts no voxels
        sums = sums.index_add(0, voxel, torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1))
        return sums[:, :5] / sums[:, 5:], voxel_coordinates(numbers, self.shape)


def voxel_number(sample: Tensor, z: Tensor, y: Tensor, x: Tensor, shape: Triple) -> Tensor:
    """Number voxels of a grid (Z, Y, X), int64 (V,), counted along x, then y, z and samples."""
    return ((sample * shape[0] + z) * shape[1] + y) * shape[2] + x


def voxel_coordinates(number: Tensor, shape: Triple) -> Tensor:
    """Compute coordinates, int64 (V, 4) sample, z, y, x: the inverse of `voxel_number`."""
    line, x = number // shape[2], number % shape[2]
    layer, y = line // shape[1], line % shape[1]
    return torch.stack([layer // shape[0], layer % shape[0], y, x], dim=1)

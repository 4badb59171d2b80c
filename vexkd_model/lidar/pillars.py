"""Dynamic pillars: a point cloud → the low-level BEV map.

Source: PointPillars (Lang et al., CVPR 2019), with dynamic voxelisation (Zhou et al., 2019): every point counts, no
limit of points a pillar or of pillars.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vexkd_model.geometry.bev_grid import cell_of_index, cells_from_metres, flat_index, in_map, metres_from_cells
from vexkd_model.layers import BatchNorm1d, Conv2d, conv_bn_relu
from vexkd_model.lidar.pillar_pooling import PillarPooling
from vexkd_model.types import BevGrid

# x, y, z, intensity, dt to about ±1. Intensity by 64, not by 255: paint on asphalt is a matter of 8 against 30.
POINT_SCALE = (1 / 54.0, 1 / 54.0, 1 / 5.0, 1 / 64.0, 1 / 0.5)
GREATEST_INTENSITY = 255.0  # for which that is
POINT_FEATURES = 5 + 3 + 2  # the point, its offset from the pillar's mean, and from the pillar's centre


def point_scales(intensity_max: float) -> tuple[float, ...]:
    """Factors of a point's features for a sensor whose intensities are 0 … intensity_max."""
    x, y, z, intensity, age = POINT_SCALE
    return x, y, z, intensity * (GREATEST_INTENSITY / intensity_max), age


class PillarEncoder(nn.Module):
    """Pillar encoder: points (N, 5) with their sample's number (N,) → (B, channels, Y, X) on `grid`.

    A cell of the grid is 1, 2 or 3 pillars wide; the first of `stem_layers` 3×3 convolutions steps over as many.
    age_groups: pillars of points of similar age are pooled apart, from the newest to those `max_age` [s] old, and lie
    side by side as channels of the stem's input: what moves stands in other pillars of one group than of another.
    intensity_max: greatest intensity of the points.
    """

    point_scale: Tensor

    def __init__(
        self,
        grid: BevGrid,
        pillar: float,
        z_min: float,
        z_max: float,
        pillar_channels: int,
        channels: int,
        stem_layers: int,
        age_groups: int = 1,
        max_age: float = 1.0,
        intensity_max: float = GREATEST_INTENSITY,
    ) -> None:
        super().__init__()
        self.scales = point_scales(intensity_max)
        self.channels, self.age_groups, self.max_age = channels, age_groups, max_age
        self.pillars = replace(grid, cell=pillar)
        self.z_min, self.z_max = z_min, z_max
        self.point_net = nn.Sequential(
            nn.Linear(POINT_FEATURES, pillar_channels, bias=False),
            BatchNorm1d(pillar_channels, eps=1e-3),
            nn.ReLU(inplace=True),
        )
        stride = round(grid.cell / pillar)
        self.stem = nn.Sequential(
            # Three pillars a cell are just the kernel: padding would shift what it sees by a pillar.
            Conv2d(
                age_groups * pillar_channels, channels, 3, stride=stride, padding=0 if stride == 3 else 1, bias=False
            ),
            nn.BatchNorm2d(channels, eps=1e-3),
            nn.ReLU(inplace=True),
            *(conv_bn_relu(channels, channels) for _ in range(stem_layers - 1)),
        )
        self.register_buffer("point_scale", torch.tensor(self.scales), persistent=False)
        self._pooling: PillarPooling | None = None

    def pool_fast(self) -> None:
        """Pool by PillarPooling from now on: on a CPU, of one cloud, with folded batch norm, for inference alone."""
        linear = self.point_net[0]
        assert isinstance(linear, nn.Linear) and linear.bias is not None
        self._pooling = PillarPooling(
            linear, self.scales, self.pillars, self.z_min, self.z_max, self.age_groups, self.max_age
        )

    def forward(self, points: Tensor, sample: Tensor, batch_size: int) -> Tensor:
        """Encode points (N, 5) of base_link in the order of POINT_FIELDS; sample: int64 (N,), each point's frame."""
        return self.stem(self.canvas(points, sample, batch_size))

    def canvas(self, points: Tensor, sample: Tensor, batch_size: int) -> Tensor:
        """Pool the pillars to the input of the stem, (B, age groups · pillar channels, Y, X) of pillars."""
        if self._pooling is not None and batch_size == 1:
            return self._pooling(points)
        points, cell = self._inside(points, sample, batch_size)
        features = self.point_net(self._decorate(points, cell, batch_size))
        return self._pooled(features, self._by_age(cell, points[:, 4]), batch_size)

    def _inside(self, points: Tensor, sample: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
        """Select the points inside the range, with the flat index of each one's pillar in (B, Y, X)."""
        rows, columns = self.pillars.shape
        position, z = cells_from_metres(points, self.pillars), points[:, 2]
        inside = in_map(position, self.pillars.shape) & (z >= self.z_min) & (z < self.z_max)
        cell = flat_index(position, self.pillars.shape, sample)
        kept = inside.nonzero()[:, 0]  # once: each mask that indexes makes the CPU wait for the GPU
        points, cell = points[kept], cell[kept]
        if torch.compiler.is_exporting():
            # torch.export would specialise on zero points; append a dummy in an extra cell.
            beyond = cell.new_full((1,), batch_size * rows * columns)
            points, cell = torch.cat([points, points.new_zeros(1, 5)]), torch.cat([cell, beyond])
        return points, cell

    def _decorate(self, points: Tensor, cell: Tensor, batch_size: int) -> Tensor:
        rows, columns = self.pillars.shape
        sums = points.new_zeros(batch_size * rows * columns + 1, 4)
        sums.index_add_(0, cell, torch.cat([points[:, :3], torch.ones_like(points[:, :1])], dim=1))
        sums_of_point = sums[cell]
        from_mean = points[:, :3] - sums_of_point[:, :3] / sums_of_point[:, 3:]
        from_centre = points[:, :2] - metres_from_cells(cell_of_index(cell, self.pillars.shape) + 0.5, self.pillars)
        return torch.cat([points * self.point_scale, from_mean, from_centre / self.pillars.cell], dim=1)

    def _by_age(self, cell: Tensor, age: Tensor) -> Tensor:
        """Flat index (N,) into (B, Y, X, age groups) of points in pillars `cell` (N,), `age` (N,) [s] old."""
        if self.age_groups == 1:
            return cell
        group = (age * (self.age_groups / self.max_age)).long().clamp(0, self.age_groups - 1)
        return cell * self.age_groups + group

    def _pooled(self, features: Tensor, place: Tensor, batch_size: int) -> Tensor:
        """Pool to a map (B, groups · C, Y, X): each pillar's channel-wise maximum, 0 where empty, the ReLU's floor."""
        rows, columns = self.pillars.shape
        places = batch_size * rows * columns * self.age_groups
        if torch.compiler.is_exporting():
            canvas = features.new_zeros(places + self.age_groups, features.shape[1])
            canvas = canvas.scatter_reduce(0, place[:, None].expand_as(features), features, "amax")[:places]
        else:
            canvas = _ScatterMax.apply(features, place, places)
        # NHWC memory is what the scatter wrote and what CPU and tensor-core convolutions like best.
        return canvas.view(batch_size, rows, columns, -1).permute(0, 3, 1, 2)


class _ScatterMax(Function):
    """Scatter by maximum: features (N, C) ≥ 0 → (places, C), 0 where there is none.

    PyTorch's own gradient shares out among equal maxima, with three more passes over all points; here each of them gets
    the whole. After a ReLU, nearly all that are equal are 0, and have no gradient.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, place: Tensor, places: int) -> Tensor:
        canvas = features.new_zeros(places, features.shape[1])
        canvas.scatter_reduce_(0, place[:, None].expand_as(features), features, "amax")
        ctx.save_for_backward(features, place, canvas)
        return canvas

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, place, canvas = ctx.saved_tensors
        largest = features == canvas.index_select(0, place)
        return grad.index_select(0, place).mul_(largest), None, None

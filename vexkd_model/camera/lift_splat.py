"""Lift, splat: camera features → the low-level BEV map, by a predicted distribution of depth.

Source: Philion & Fidler, "Lift, Splat, Shoot" (ECCV 2020). A feature cell and a depth bin make a frustum cell; it adds
its context times its depth probability to the BEV cell in which it stands. That is a sparse matrix of probabilities
(BEV cells × feature cells) times the context, so the product of both (B, N, D, h, w, C) is never made.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vexkd_model.camera.depth import DepthBins
from vexkd_model.camera.projection import inverse_3x3, product
from vexkd_model.data.batch import CameraBatch
from vexkd_model.geometry.bev_grid import cells_from_metres, flat_index, in_map
from vexkd_model.layers import conv_bn_relu
from vexkd_model.types import BevGrid


class SparseRows(NamedTuple):
    """Sparse matrix by rows (CSR), whose values are depth probabilities. All int64.

    value: (M,) flat index into (B, N, D, h, w). column: (M,). first: (rows,), where each row's values begin.
    """

    value: Tensor
    column: Tensor
    first: Tensor


class LiftGeometry(NamedTuple):
    """Pairs of frustum cell and BEV cell in which it stands, M of them, twice. Cells outside the grid are in none.

    by_cell: rows are the BEV cells (B · Y · X), columns the feature cells (B · N · h · w). by_pixel: the transpose.
    """

    by_cell: SparseRows
    by_pixel: SparseRows


class LiftSplat(nn.Module):
    """Lift-splat: depth probabilities (B, N, D, h, w) and context (B, N, C, h, w) → float32 (B, C, Y, X) on `grid`.

    stride: pixels of the network's image a feature cell. What stands below z_min or from z_max on [m] is left out.
    """

    depth: Tensor

    def __init__(self, grid: BevGrid, bins: DepthBins, stride: int, z_min: float, z_max: float) -> None:
        super().__init__()
        self.grid, self.stride, self.z_min, self.z_max = grid, stride, z_min, z_max
        self.register_buffer("depth", bins.centres(), persistent=False)

    def forward(self, probability: Tensor, context: Tensor, geometry: LiftGeometry) -> Tensor:
        """Compute the map; geometry: a result of `geometry` for the cameras of these features."""
        rows, columns = self.grid.shape
        # In float32: thousands of frustum cells add up to one BEV cell near the vehicle.
        features = context.float().permute(0, 1, 3, 4, 2).reshape(-1, context.shape[2])
        summed = _SparseProduct.apply(probability.float().flatten(), features, *geometry.by_cell, *geometry.by_pixel)
        return summed.view(len(context), rows, columns, -1).permute(0, 3, 1, 2)

    def geometry(self, cameras: CameraBatch, feature_size: tuple[int, int]) -> LiftGeometry:
        """Find the BEV cell of every frustum cell of features (h, w).

        Valid until calibration or presence change. An absent camera has no frustum cells.
        """
        rows, columns = self.grid.shape
        frames, count = cameras.present.shape
        points = self.positions(cameras, feature_size)
        position, z = cells_from_metres(points, self.grid), points[..., 2]
        inside = (
            in_map(position, self.grid.shape)
            & (z >= self.z_min)
            & (z < self.z_max)
            & cameras.present[:, :, None, None, None]
        )
        frame = torch.arange(frames, device=z.device)[:, None, None, None, None]
        kept = inside.flatten().nonzero()[:, 0]
        cell = flat_index(position, self.grid.shape, frame).flatten()[kept]

        # `positions` has the bins last: what is left is sorted by feature cell already.
        bins, area = len(self.depth), feature_size[0] * feature_size[1]
        pixel = kept // bins
        value = (pixel // area * bins + kept % bins) * area + pixel % area
        sorted_cell, order = torch.sort(cell, stable=True)
        return LiftGeometry(
            SparseRows(value[order], pixel[order], _row_starts(sorted_cell, frames * rows * columns)),
            SparseRows(value, cell, _row_starts(pixel, frames * count * area)),
        )

    def positions(self, cameras: CameraBatch, feature_size: tuple[int, int]) -> Tensor:
        """Place the middles of the frustum cells, (B, N, h, w, D, 3) in base_link [m]."""
        height, width = feature_size
        v, u = torch.meshgrid(
            torch.arange(height, device=self.depth.device) + 0.5,
            torch.arange(width, device=self.depth.device) + 0.5,
            indexing="ij",
        )
        pixels = torch.stack([u * self.stride, v * self.stride, torch.ones_like(u)], dim=-1)
        rotation, translation = cameras.base_from_camera[..., :3, :3], cameras.base_from_camera[..., :3, 3]
        base_from_image = product(rotation, inverse_3x3(cameras.image_from_camera))
        rays = (base_from_image[:, :, None, None] * pixels[..., None, :]).sum(dim=-1)
        return rays[..., None, :] * self.depth[:, None] + translation[:, :, None, None, None]


class BevDownsample(nn.Module):
    """Convolutions (B, C, Y, X) → (B, C, Y / 2, X / 2): BEVFusion splats at half the cell of the model's grid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn_relu(channels, channels),
            conv_bn_relu(channels, channels, stride=2),
            conv_bn_relu(channels, channels),
        )

    def forward(self, fine: Tensor) -> Tensor:
        return self.layers(fine)


class _SparseProduct(torch.autograd.Function):
    """Product of a sparse matrix and features: sums of value × features[column], (rows, C).

    embedding_bag is that product, on every device. Its own gradient to the features is slow on a CPU; the product with
    the transposed matrix is the same and as fast as the forward pass.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, features: Tensor, *matrix_and_transpose: Tensor) -> Tensor:
        ctx.save_for_backward(values, features, *matrix_and_transpose)
        return _row_sums(values, features, SparseRows(*matrix_and_transpose[:3]))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        values, features, *matrix_and_transpose = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_features = _row_sums(values, gradient, SparseRows(*matrix_and_transpose[3:]))
        with torch.enable_grad():
            leaf = values.detach().requires_grad_()
            sums = _row_sums(leaf, features.detach(), SparseRows(*matrix_and_transpose[:3]))
            (of_values,) = torch.autograd.grad(sums, leaf, gradient)
        return of_values, of_features, *[None] * 6


def _row_sums(values: Tensor, features: Tensor, matrix: SparseRows) -> Tensor:
    return functional.embedding_bag(
        matrix.column, features, matrix.first, mode="sum", per_sample_weights=values.index_select(0, matrix.value)
    )


def _row_starts(sorted_rows: Tensor, count: int) -> Tensor:
    return torch.searchsorted(sorted_rows, torch.arange(count, device=sorted_rows.device))

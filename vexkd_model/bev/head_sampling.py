"""Sampling of deformable attention: each head's weighted sum of bilinear reads of a map.

`sample_by_grid` is the reference, and serves on a GPU and in exported graphs. It makes a tensor of every read, heads ×
channels × queries × points. On a CPU, `sample_by_rows` sums the four neighbours of all points at once, cell by cell of
a map whose channels lie side by side, and makes none. Its gradients cost as much for one channel as for many: narrow
heads are trained by grid_sample.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from vexkd_model.geometry.bev_grid import sample_from_cells
from vexkd_model.layers import by_reference_operators

LEAST_TRAINED_BY_ROWS = 32  # channels of a head: measured faster there, and slower with 16


def sample_heads(value: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """Sum what each head reads, Σ_keys A_ij · x_i(position_ij): (B, heads, C, Q) in the positions' precision.

    value: (B, heads, C, Y, X). positions: (B, heads, Q, points, 2), x and y in cells. weights: (B, heads, Q, points).
    Reads are bilinear between cell centres, and zero outside the map.
    """
    value = value.to(positions.dtype)
    trained = torch.is_grad_enabled() and any(part.requires_grad for part in (value, positions, weights))
    wide = value.shape[2] >= LEAST_TRAINED_BY_ROWS
    by_rows = value.device.type == "cpu" and (wide or not trained) and not torch.compiler.is_compiling()
    if by_rows and not by_reference_operators():
        return sample_by_rows(value, positions, weights)
    return sample_by_grid(value, positions, weights)


def sample_by_grid(value: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """Compute `sample_heads` by PyTorch's grid_sample."""
    grid = sample_from_cells(positions, (value.shape[3], value.shape[4]))
    sampled = functional.grid_sample(value.flatten(0, 1), grid.flatten(0, 1), align_corners=False)
    return (sampled * weights.flatten(0, 1)[:, None]).sum(dim=3).unflatten(0, value.shape[:2])


def sample_by_rows(value: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """Compute `sample_heads` as weighted sums of rows, the channels of one head in one cell."""
    batch, heads, channels, rows, columns = value.shape
    table = value.permute(0, 3, 4, 1, 2).reshape(-1, channels)
    # Queries before heads: the result then has all channels of a query side by side, as the next layer reads them.
    x, y = positions.transpose(1, 2).unbind(-1)
    columns_read, rows_read = _neighbours(x, columns), _neighbours(y, rows)
    share = weights.transpose(1, 2)
    frame = torch.arange(batch, dtype=torch.int32, device=value.device)[:, None, None, None] * (rows * columns)
    head = torch.arange(heads, dtype=torch.int32, device=value.device)[:, None]
    index, shares = [], []
    for row, of_row in rows_read:
        first, of_row = row * columns + frame, of_row * share
        for column, of_column in columns_read:
            index.append((first + column) * heads + head)
            shares.append(of_row * of_column)
    bags = (torch.stack(side, dim=-1).flatten(0, 2).flatten(1) for side in (shares, index))
    return _RowSums.apply(table, *bags).view(batch, -1, heads, channels).permute(0, 2, 3, 1)


def _neighbours(position: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Find the two cells along an axis between whose centres positions lie: int32 indices, and shares of the read.

    Outside the map, where an index is that of some other cell, the share is 0; it is NaN for what is not finite.
    """
    shifted = position - 0.5
    before = shifted.detach().floor()
    after_share = shifted - before
    return [
        (cell.clamp(0, size - 1).nan_to_num().int(), share * ((cell >= 0) & (cell < size)))
        for cell, share in ((before, 1 - after_share), (before + 1, after_share))
    ]


class _RowSums(Function):
    """Sums of a table's rows (R, C): weights (N, K) and int32 indices (N, K) of rows → (N, C).

    embedding_bag is that sum. Its own gradient to the table is slow on a CPU; the same sum over the transposed matrix,
    found by sorting the indices, is not.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, weights: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(table, weights, index)
        return functional.embedding_bag(index, table, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        table, weights, index = ctx.saved_tensors
        grad, of_table, of_weights = grad.contiguous(), None, None
        if ctx.needs_input_grad[0]:
            row, order = index.flatten().sort()
            starts = torch.searchsorted(row, torch.arange(len(table), dtype=row.dtype, device=row.device))
            of_table = functional.embedding_bag(
                (order // index.shape[1]).int(),
                grad,
                starts.int(),
                mode="sum",
                per_sample_weights=weights.flatten().index_select(0, order),
            )
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                leaf = weights.detach().requires_grad_()
                sums = functional.embedding_bag(index, table.detach(), mode="sum", per_sample_weights=leaf)
                (of_weights,) = torch.autograd.grad(sums, leaf, grad)
        return of_table, of_weights, None

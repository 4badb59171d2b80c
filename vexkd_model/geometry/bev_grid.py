"""Positions on a BEV grid: metres of base_link, cells, and coordinates of `grid_sample`.

Every position is (x, y), every shape (Y, X). Cells are counted from the grid's minimum corner: cell (j, i) covers
[i, i + 1) × [j, j + 1), its centre is at (i + 0.5, j + 0.5). Sampling coordinates are those of `grid_sample` with
align_corners=False: −1 and 1 are the map's outer borders. Results have the precision of the positions.
"""

import torch
from torch import Tensor

from vexkd_model.types import BevGrid


def cells_from_metres(points: Tensor, grid: BevGrid) -> Tensor:
    """Convert points (..., ≥ 2) of base_link [m], of which x and y count, to cells (..., 2)."""
    return torch.stack(
        [
            axis_cells_from_metres(points[..., 0], grid.x_min, grid.cell),
            axis_cells_from_metres(points[..., 1], grid.y_min, grid.cell),
        ],
        dim=-1,
    )


def axis_cells_from_metres(position: Tensor, minimum: float | Tensor, cell: float | Tensor) -> Tensor:
    """Convert positions [m] along one axis, or along several with tensors that broadcast, to cells from `minimum`."""
    return (position - minimum) / cell


def metres_from_cells(cells: Tensor, grid: BevGrid) -> Tensor:
    """Convert cells (..., 2) to points (..., 2) of base_link [m]: the inverse of `cells_from_metres`."""
    return torch.stack([cells[..., 0] * grid.cell + grid.x_min, cells[..., 1] * grid.cell + grid.y_min], dim=-1)


def in_map(cells: Tensor, shape: tuple[int, int]) -> Tensor:
    """Mask, bool (...), of the positions (..., 2) in cells that lie on a map of (Y, X); NaN and infinity do not."""
    x, y = cells[..., 0], cells[..., 1]
    # Compared as floats: what an integer makes of NaN or 1e30 depends on the processor.
    return (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])


def on_grid(points: Tensor, grid: BevGrid) -> Tensor:
    """Mask, bool (...), of the points (..., ≥ 2) of base_link [m] that lie on the grid: minima do, maxima do not."""
    return in_map(cells_from_metres(points, grid), grid.shape)


def flat_index(cells: Tensor, shape: tuple[int, int], sample: int | Tensor = 0) -> Tensor:
    """Index, int64 (...), into (B, Y, X) of the cells that hold positions (..., 2) in cells.

    It means nothing for positions that are not `in_map`.
    """
    column, row = cells.floor().long().unbind(dim=-1)
    return (sample * shape[0] + row) * shape[1] + column


def cell_of_index(index: Tensor, shape: tuple[int, int]) -> Tensor:
    """Column and row, int64 (..., 2), of cells by their index (...) into (Y, X) or (B, Y, X)."""
    return torch.stack([index % shape[1], index // shape[1] % shape[0]], dim=-1)


def centres_in_cells(shape: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Centres of all cells of a map, float32 (Y, X, 2), in cells."""
    y, x = torch.meshgrid(*(torch.arange(count, device=device) + 0.5 for count in shape), indexing="ij")
    return torch.stack([x, y], dim=-1)


def sample_from_metres(points: Tensor, grid: BevGrid) -> Tensor:
    """Convert points (..., ≥ 2) of base_link [m] to sampling coordinates (..., 2) of a map on `grid`."""
    return torch.stack(
        [
            2 * (points[..., 0] - grid.x_min) / (grid.x_max - grid.x_min) - 1,
            2 * (points[..., 1] - grid.y_min) / (grid.y_max - grid.y_min) - 1,
        ],
        dim=-1,
    )


def sample_from_cells(cells: Tensor, shape: tuple[int, int]) -> Tensor:
    """Convert positions (..., 2) in cells to sampling coordinates (..., 2) of a map of (Y, X)."""
    return torch.stack([cells[..., 0] * (2 / shape[1]), cells[..., 1] * (2 / shape[0])], dim=-1) - 1

"""Positions on a BEV grid against float64 NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vexkd_model.geometry.bev_grid import (
    cell_of_index,
    cells_from_metres,
    centres_in_cells,
    flat_index,
    in_map,
    metres_from_cells,
    on_grid,
    sample_from_cells,
    sample_from_metres,
)
from vexkd_model.types import BevGrid

FINITE = st.floats(-300, 300, width=32)
NOWHERE = (np.nan, np.inf, -np.inf, 1e30, -1e30)


@st.composite
def grids(draw):
    """Grids of unequal sides, anywhere around the vehicle; cells of a power of two, a decimal or any size."""
    cell = draw(st.sampled_from([0.125, 0.5, 2.0, 0.075, 0.15, 0.6, 0.9]) | st.floats(0.05, 4.0))
    rows, columns = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    x_min, y_min = draw(st.floats(-100, 50)), draw(st.floats(-100, 50))
    return BevGrid(x_min, x_min + columns * cell, y_min, y_min + rows * cell, cell)


def corner(grid):
    return np.array([grid.x_min, grid.y_min])


def centres(grid):
    """float64 (Y, X, 2): minimum + (index + 0.5) · cell."""
    rows, columns = grid.shape
    return np.array(
        [
            [[grid.x_min + (i + 0.5) * grid.cell, grid.y_min + (j + 0.5) * grid.cell] for i in range(columns)]
            for j in range(rows)
        ]
    )


def rounding(grid, *values):
    """Tolerance [cells] of float32 arithmetic on metres of this magnitude."""
    largest = max(100.0, *(np.abs(np.nan_to_num(value)).max(initial=0) for value in values))
    return 8 * np.finfo(np.float32).eps * largest / grid.cell


@settings(max_examples=100, deadline=None)
@given(grids(), st.lists(st.tuples(FINITE, FINITE), max_size=20))
def test_metres_become_cells_counted_from_the_minimum_corner_and_come_back(grid, points):
    points = np.array(points, np.float32).reshape(-1, 2)
    expected = (points.astype(np.float64) - corner(grid)) / grid.cell
    tolerance = rounding(grid, points)
    cells = cells_from_metres(torch.from_numpy(points), grid)
    assert cells.dtype == torch.float32
    np.testing.assert_allclose(cells.numpy(), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(metres_from_cells(cells, grid).numpy(), points, rtol=0, atol=2 * tolerance * grid.cell)
    doubles = cells_from_metres(torch.from_numpy(points).double(), grid)
    np.testing.assert_array_equal(doubles.numpy(), expected)
    np.testing.assert_allclose(metres_from_cells(doubles, grid).numpy(), points, rtol=0, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(grids())
def test_the_centre_of_cell_j_i_is_half_a_cell_beyond_its_index(grid):
    rows, columns = grid.shape
    in_cells = centres_in_cells(grid.shape)
    assert in_cells.shape == (rows, columns, 2) and in_cells.dtype == torch.float32
    np.testing.assert_array_equal(metres_from_cells(in_cells.double(), grid).numpy(), centres(grid))
    y, x = grid.centres()
    np.testing.assert_array_equal(centres(grid), np.stack(np.meshgrid(x, y), axis=-1))

    found = torch.from_numpy(centres(grid)).float()
    assert on_grid(found, grid).all()
    index = flat_index(cells_from_metres(found, grid), grid.shape)
    np.testing.assert_array_equal(index.numpy(), np.arange(rows * columns).reshape(rows, columns))


@settings(max_examples=200, deadline=None)
@given(grids(), st.lists(st.tuples(FINITE | st.sampled_from(NOWHERE), FINITE | st.sampled_from(NOWHERE)), max_size=20))
def test_a_point_lies_on_the_grid_just_where_its_range_says(grid, points):
    points = np.array(points, np.float32).reshape(-1, 2)
    found = on_grid(torch.from_numpy(points), grid).numpy()
    x, y = points.astype(np.float64).T
    expected = (x >= grid.x_min) & (x < grid.x_max) & (y >= grid.y_min) & (y < grid.y_max)
    finite = points[np.isfinite(points) & (np.abs(points) < 1e6)]
    margin = rounding(grid, finite) * grid.cell
    near = np.zeros(len(points), bool)
    for value, borders in ((x, (grid.x_min, grid.x_max)), (y, (grid.y_min, grid.y_max))):
        for border in borders:
            near |= np.abs(value - border) <= margin
    np.testing.assert_array_equal(found[~near], expected[~near])
    cells = cells_from_metres(torch.from_numpy(points), grid)[torch.from_numpy(found)]
    column, row = cell_of_index(flat_index(cells, grid.shape), grid.shape).unbind(dim=-1)
    assert ((column >= 0) & (column < grid.shape[1]) & (row >= 0) & (row < grid.shape[0])).all()


@pytest.mark.parametrize("bad", NOWHERE)
def test_nan_infinity_and_what_is_far_away_lie_on_no_grid(bad):
    points = torch.tensor([[bad, 0.0], [0.0, bad], [bad, bad]])
    grid = BevGrid(-2.0, 2.0, -1.0, 3.0, 0.5)
    assert not on_grid(points, grid).any() and not in_map(points, grid.shape).any()
    assert on_grid(torch.zeros(1, 2), grid).all()


def test_a_minimum_belongs_to_the_grid_and_a_maximum_does_not():
    grid = BevGrid(-2.0, 2.0, -1.0, 3.0, 0.5)
    x_in, y_in, before = -2.0, -1.0, np.float32(-1e-6)
    points = torch.tensor(
        [
            [x_in, y_in],
            [x_in, 0.0],
            [0.0, y_in],
            [1.9999, 2.9999],
            [2.0, 0.0],
            [0.0, 3.0],
            [x_in + before, 0.0],
            [0.0, y_in + before],
        ]
    )
    assert on_grid(points, grid).tolist() == [True] * 4 + [False] * 4
    index = flat_index(cells_from_metres(points[:4], grid), grid.shape)
    assert index.tolist() == [0, 2 * 8, 4, 63]


def test_a_border_between_two_cells_belongs_to_the_farther_one():
    grid = BevGrid(-2.0, 2.0, -1.0, 3.0, 0.5)
    borders = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="xy"), dim=-1)
    points = metres_from_cells(borders.float(), grid)
    assert torch.equal(flat_index(cells_from_metres(points, grid), grid.shape), torch.arange(64).view(8, 8))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_an_index_into_a_batch_of_maps_is_that_of_numpy_and_leads_back_to_its_cell(batch, rows, columns, seed):
    rng = np.random.default_rng(seed)
    sample, row, column = (rng.integers(0, count, 20) for count in (batch, rows, columns))
    within = torch.from_numpy(np.stack([column, row], axis=1) + rng.uniform(0.01, 0.99, (20, 2)))
    index = flat_index(within, (rows, columns), torch.from_numpy(sample))
    np.testing.assert_array_equal(index.numpy(), np.ravel_multi_index((sample, row, column), (batch, rows, columns)))
    np.testing.assert_array_equal(cell_of_index(index, (rows, columns)).numpy(), np.stack([column, row], axis=1))


@settings(max_examples=60, deadline=None)
@given(grids(), st.lists(st.tuples(FINITE, FINITE), max_size=20))
def test_grid_sample_coordinates_span_the_map_from_border_to_border(grid, points):
    points = np.array(points, np.float32).reshape(-1, 2)
    size = np.array([grid.x_max - grid.x_min, grid.y_max - grid.y_min])
    expected = 2 * (points.astype(np.float64) - corner(grid)) / size - 1
    tolerance = 2 * rounding(grid, points)
    found = sample_from_metres(torch.from_numpy(points), grid)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=tolerance)
    of_cells = sample_from_cells(cells_from_metres(torch.from_numpy(points), grid), grid.shape)
    np.testing.assert_allclose(of_cells.numpy(), expected, rtol=0, atol=2 * tolerance)
    ends = torch.tensor([[grid.x_min, grid.y_min], [grid.x_max, grid.y_max]], dtype=torch.float64)
    np.testing.assert_allclose(sample_from_metres(ends, grid).numpy(), [[-1, -1], [1, 1]], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(0, 2**32 - 1))
def test_a_map_read_at_its_own_cell_centres_is_the_map(grid, seed):
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 2, *grid.shape)))
    in_cells = centres_in_cells(grid.shape).double()
    for position in (
        sample_from_metres(metres_from_cells(in_cells, grid), grid),
        sample_from_cells(in_cells, grid.shape),
    ):
        read = torch.nn.functional.grid_sample(values, position[None], align_corners=False)
        np.testing.assert_allclose(read.numpy(), values.numpy(), rtol=0, atol=1e-9)

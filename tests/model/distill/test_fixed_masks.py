"""Masks of other methods, against their definitions cell by cell."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import rotate, translate
from shapely.geometry import box as rectangle

from vexkd_model.distill.fixed_masks import activation, gaussian, key_points, nine_points, ones
from vexkd_model.types import BevGrid

GRID = BevGrid(-20.0, 20.0, -10.0, 10.0, 1.0)
MAP = torch.zeros(2, 4, *GRID.shape)


def box(x, y, length, width, yaw=0.0):
    return torch.tensor([[x, y, 0.0, length, width, 1.5, yaw, 0.0, 0.0]])


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(1, 10), st.floats(0.5, 4), st.floats(-math.pi, math.pi))
def test_nine_points_are_corners_middles_and_centre(x, y, length, width, yaw):
    upright = rectangle(-length / 2, -width / 2, length / 2, width / 2)
    outline = translate(rotate(upright, yaw, (0, 0), use_radians=True), x, y)
    corners = np.array(outline.exterior.coords[:4])
    expected = np.concatenate([corners, (corners + np.roll(corners, 1, axis=0)) / 2, [[x, y]]])
    found = nine_points(box(x, y, length, width, yaw))[0].numpy()
    for point in expected:
        assert np.abs(found - point).max(axis=1).min() < 1e-4


def test_key_points_mark_the_cells_of_each_samples_boxes():
    boxes = [box(3.5, 2.5, 4.0, 2.0), torch.empty(0, 9)]
    mask = key_points(GRID)("low", None, MAP, boxes)
    marked = {(x, y) for x in (1.5, 3.5, 5.5) for y in (1.5, 2.5, 3.5)}
    expected = torch.zeros(GRID.shape)
    for x, y in marked:
        expected[math.floor(y + 10), math.floor(x + 20)] = 1
    assert torch.equal(mask[0, 0], expected) and not mask[1].any() and mask.shape == (2, 1, *GRID.shape)


def test_points_beyond_the_grid_mark_nothing():
    mask = key_points(GRID)("low", None, MAP, [box(19.5, 0.5, 8.0, 2.0), box(300.0, 0.0, 4.0, 2.0)])
    assert mask[0].sum() == 6 and not mask[1].any()  # its front lies outside
    assert not gaussian(GRID)("low", None, MAP, [box(300.0, 0.0, 4.0, 2.0), torch.empty(0, 9)]).any()


def test_gaussians_peak_at_the_centres_and_overlap_by_their_maximum():
    boxes = torch.cat([box(0.5, 0.5, 8.0, 4.0), box(2.5, 0.5, 0.5, 0.5)])
    mask = gaussian(GRID)("high", None, MAP, [boxes, torch.empty(0, 9)])[0, 0]
    assert mask[10, 20] == 1 and mask[10, 22] == 1
    radius, small = 2, 1  # 8 × 4 cells: 0.4r² + 2.4r − 28.8 = 0, published as (−2.4 + √51.84)/2 = 2.4; at least 1

    def bell(reach, x):
        return math.exp(-(x**2) / (2 * ((2 * reach + 1) / 6) ** 2)) if x <= reach else 0.0

    assert mask[10, 21].item() == pytest.approx(max(bell(radius, 1), bell(small, 1)))
    assert mask[10, 18].item() == pytest.approx(bell(radius, 2)) and mask[10, 17] == 0 and mask.max() == 1


def test_activation_is_the_teachers_magnitude_over_its_largest():
    teacher = torch.randn(2, 4, *GRID.shape)
    mask = activation("low", None, teacher, [])
    by_hand = teacher.numpy().astype(np.float64)
    by_hand = np.abs(by_hand).sum(1)
    by_hand = by_hand / by_hand.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(mask[:, 0].numpy(), by_hand, rtol=1e-5)
    assert activation("low", None, torch.zeros_like(teacher), []).isfinite().all()
    assert ones("low", None, teacher, []).eq(1).all()

"""Pooling at inference against the encoder that trains: the same canvas, cloud after cloud."""

import copy

import numpy as np
import pytest
import torch

from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.lidar.pillars import PillarEncoder
from vexkd_model.types import BevGrid

GRID = BevGrid(-54.0, 54.0, -36.0, 36.0, 4.5)


def encoders(age_groups, intensity_max=255.0):
    """Make an encoder with an arbitrary, folded batch norm, and a copy that pools fast."""
    torch.manual_seed(age_groups)
    slow = PillarEncoder(GRID, 1.5, -3.0, 2.0, 7, 5, 1, age_groups, 0.4, intensity_max)
    norm = slow.point_net[1]
    for values in (norm.running_mean, norm.weight.data, norm.bias.data):
        values.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    slow = fold_batch_norms(slow.eval())
    fast = copy.deepcopy(slow)
    fast.pool_fast()
    return slow, fast


def cloud(count, seed, spread=1.1):
    """Draw points, some out of range; with a small `spread` hundreds share a pillar."""
    random = np.random.default_rng(seed)
    low, high = np.array([-54, -36, -3, 0, 0]), np.array([54, 36, 2, 255, 0.45])
    points = random.uniform(low, high, (count, 5)).astype(np.float32)
    points[:, :3] *= spread
    return torch.from_numpy(points)


@torch.no_grad()
def canvas(encoder, points):
    return encoder.canvas(points, torch.zeros(len(points), dtype=torch.long), 1)


def test_the_canvas_of_other_intensities_is_that_of_the_encoder():
    slow, fast = encoders(2, intensity_max=1.0)
    points = cloud(3000, 0)
    points[:, 3] /= 255
    torch.testing.assert_close(canvas(fast, points), canvas(slow, points), atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("age_groups", [1, 2, 3])
def test_the_canvas_is_that_of_the_encoder_whatever_came_before(age_groups):
    slow, fast = encoders(age_groups)
    for seed, (count, spread) in enumerate([(5000, 1.1), (3000, 0.05), (0, 1), (1, 1), (30_000, 1.1), (20, 2.0)]):
        points = cloud(count, seed, spread)
        expected = canvas(slow, points)
        assert expected.any() == (count > 0)
        torch.testing.assert_close(canvas(fast, points), expected, atol=2e-4, rtol=1e-5)


def test_points_that_are_not_finite_or_out_of_range_change_nothing():
    _, fast = encoders(2)
    points = cloud(300, 0)
    strangers = torch.zeros(6, 5)
    strangers[:, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, 54.0, -54.001])
    alone = canvas(fast, points).clone()
    torch.testing.assert_close(canvas(fast, torch.cat([strangers, points])), alone, atol=1e-5, rtol=1e-5)
    assert not canvas(fast, strangers).any()


def test_memory_by_column_gives_the_same():
    _, fast = encoders(2)
    points = cloud(2000, 3)
    by_row = canvas(fast, points).clone()
    assert torch.equal(canvas(fast, points.T.contiguous().T), by_row)


def test_the_map_of_the_whole_encoder_is_the_same():
    slow, fast = encoders(2)
    points = cloud(4000, 5)
    sample = torch.zeros(len(points), dtype=torch.long)
    with torch.no_grad():
        torch.testing.assert_close(fast(points, sample, 1), slow(points, sample, 1), atol=2e-4, rtol=1e-4)

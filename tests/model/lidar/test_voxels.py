"""Voxels against a loop over points, and against where the real keyframe's points stand."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.lidar.voxels import VoxelMeans, voxel_coordinates, voxel_number
from vexkd_model.types import BevGrid

GRID = BevGrid(-4.0, 4.0, -2.0, 2.0, 0.5)  # 8 voxels along y, 16 along x
LOW, HIGH = [-4, -2, -1, 0, 0], [4, 2, 1, 255, 0.5]
SCALE = np.array([54, 54, 5, 64, 0.5])


def means():
    return VoxelMeans(GRID, 0.25, -1.0, 1.0)


def cloud(count, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform(LOW, HIGH, (count, 5)).astype(np.float32))


def numbers(count, value=0):
    return torch.full((count,), value)


def test_a_voxel_holds_the_mean_of_all_its_points_and_there_is_one_wherever_a_point_stands():
    points, sample = cloud(2000), torch.arange(2000) % 3
    found = defaultdict(list)
    for row, number in zip(points.numpy().astype(np.float64), sample.tolist(), strict=True):
        x, y, z = np.floor((row[:3] - LOW[:3]) / [0.5, 0.5, 0.25]).astype(int)
        found[number, z, y, x].append(row)
    features, coordinates = means()(points, sample)
    assert [tuple(row) for row in coordinates.tolist()] == sorted(found)
    expected = [np.mean(found[voxel], axis=0) / SCALE for voxel in sorted(found)]
    np.testing.assert_allclose(features.numpy(), expected, atol=1e-6)


@given(st.floats(-6, 6, width=32), st.floats(-3, 3, width=32), st.floats(-2, 2, width=32))
def test_a_point_stands_in_one_voxel_or_out_of_range(x, y, z):
    steps = np.array([z + 1.0, y + 2.0, x + 4.0]) / [0.25, 0.5, 0.5]
    assume(all(abs(step - round(step)) > 1e-5 or step == round(step) for step in steps))  # float32 at a border
    _, coordinates = means()(torch.tensor([[x, y, z, 9.0, 0.1]]), numbers(1))
    inside = -4.0 <= x < 4.0 and -2.0 <= y < 2.0 and -1.0 <= z < 1.0
    assert coordinates.tolist() == ([[0, *np.floor(steps).astype(int).tolist()]] if inside else [])


@pytest.mark.parametrize(
    "odd",
    [
        [4.0, 0, 0, 1, 0],
        [0, -2.01, 0, 1, 0],
        [0, 2.0, 0, 1, 0],
        [0, 0, 1.0, 1, 0],
        [0, 0, -1.01, 1, 0],
        [np.nan, 0, 0, 1, 0],
        [0, np.nan, 0, 1, 0],
        [0, 0, np.nan, 1, 0],
        [0, 0, 0, np.nan, 0],
        [0, 0, 0, 1, np.inf],
        [np.inf, 0, 0, 1, 0],
        [0, -np.inf, 0, 1, 0],
        [1e30, 0, 0, 1, 0],
    ],
)
def test_points_out_of_range_or_not_finite_change_nothing(odd):
    points = cloud(100)
    strangers = torch.cat([points, torch.tensor([odd], dtype=torch.float32)])
    for found, expected in zip(means()(strangers, numbers(101)), means()(points, numbers(100)), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_lower_border_belongs_to_the_range():
    _, coordinates = means()(torch.tensor([[-4.0, -2.0, -1.0, 0.0, 0.0]]), numbers(1))
    assert coordinates.tolist() == [[0, 0, 0, 0]]


def test_the_order_of_points_does_not_matter():
    points = cloud(500)
    shuffled = points[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    (features, coordinates), (again, same) = means()(points, numbers(500)), means()(shuffled, numbers(500))
    assert torch.equal(coordinates, same)
    torch.testing.assert_close(features, again, atol=1e-6, rtol=1e-6)


def test_an_empty_cloud_has_no_voxels():
    features, coordinates = means()(torch.zeros(0, 5), numbers(0))
    assert features.shape == (0, 5) and coordinates.shape == (0, 4)


def test_the_published_grid_is_41_by_1440_by_1440():
    assert VoxelMeans(BevGrid(-54.0, 54.0, -54.0, 54.0, 0.075), 0.2, -5.0, 3.0).shape == (41, 1440, 1440)


def test_a_height_that_does_not_divide_into_voxels_is_refused():
    with pytest.raises(ValueError, match=r"z range -1\.0 … 1\.0 m does not divide into voxels of 0\.3 m"):
        VoxelMeans(GRID, 0.3, -1.0, 1.0)


@given(st.tuples(st.integers(0, 7), st.integers(0, 40), st.integers(0, 1439), st.integers(0, 1439)))
def test_a_voxels_number_gives_its_coordinates_back(voxel):
    shape = (41, 1440, 1440)
    number = voxel_number(*torch.tensor([voxel]).unbind(1), shape)
    assert voxel_coordinates(number, shape).tolist() == [list(voxel)]


def test_the_mean_of_a_real_keyframes_points_lies_in_their_voxel(keyframe_dataroot, tmp_path):
    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    points = torch.from_numpy(FrameIndex.open(tmp_path, "mini_train")[0].load_points(1))
    module = VoxelMeans(BevGrid(-54.0, 54.0, -54.0, 54.0, 0.075), 0.2, -5.0, 3.0)
    features, coordinates = module(points, numbers(len(points)))
    assert len(features) > 15_000
    low = coordinates[:, 1:].numpy() * [0.2, 0.075, 0.075] + [-5.0, -54.0, -54.0]
    middle = (features[:, :3].numpy() * SCALE[:3])[:, ::-1]
    assert (middle >= low - 1e-4).all() and (middle <= low + [0.2, 0.075, 0.075] + 1e-4).all()


def test_a_sensor_of_intensities_up_to_1_has_the_features_of_one_up_to_255():
    points, scaled = cloud(500), cloud(500)
    scaled[:, 3] /= 255
    usual, _ = means()(points, numbers(500))
    other, _ = VoxelMeans(GRID, 0.25, -1.0, 1.0, intensity_max=1.0)(scaled, numbers(500))
    torch.testing.assert_close(other, usual, atol=1e-5, rtol=1e-5)

"""Accumulated sweeps against a plain homogeneous computation in float64."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vexkd_model.data.sweeps import Sweep, accumulate_sweeps, spaced
from vexkd_model.geometry.transforms import matrix_from_pose


def pose(x, y, z, yaw, pitch=0.0):
    cy, sy, cp, sp = np.cos(yaw / 2), np.sin(yaw / 2), np.cos(pitch / 2), np.sin(pitch / 2)
    return matrix_from_pose([x, y, z], [cy * cp, -sy * sp, cy * sp, sy * cp])


SENSOR = pose(0.9, 0.0, 1.8, -np.pi / 2)


def far_points(count, seed=0):
    """None of them near the sensor."""
    random = np.random.default_rng(seed)
    points = random.uniform(2, 40, (count, 4)) * np.where(random.random((count, 4)) < 0.5, -1, 1)
    return points.astype(np.float32)


def test_a_wall_ahead_stands_still_while_the_vehicle_drives_towards_it():
    # The wall is 20 m ahead of the vehicle now; half a second ago, 5 m further back, it was 25 m ahead.
    sweeps = [
        Sweep(np.array([[20.0, 0, 0, 9]], np.float32), 1_500_000_000, np.eye(4), pose(100, 50, 0, 0)),
        Sweep(np.array([[25.0, 0, 0, 7]], np.float32), 1_000_000_000, np.eye(4), pose(95, 50, 0, 0)),
    ]
    np.testing.assert_allclose(accumulate_sweeps(sweeps), [[20, 0, 0, 9, 0], [20, 0, 0, 7, 0.5]], atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-4, 4), st.floats(-0.2, 0.2)), min_size=1, max_size=4
    ),
    st.integers(0, 1000),
)
def test_every_point_is_moved_by_the_homogeneous_transform_chain(poses, seed):
    # Kilometres from the origin, as nuScenes' global frame is.
    sweeps = [
        Sweep(far_points(20, seed + i), 10**18 - i * 50_000_000, SENSOR, pose(1500 + x, 900 + y, 0, yaw, pitch))
        for i, (x, y, yaw, pitch) in enumerate(poses)
    ]
    points = accumulate_sweeps(sweeps).reshape(len(poses), 20, 5)
    for i, sweep in enumerate(sweeps):
        homogeneous = np.column_stack([sweep.points[:, :3].astype(np.float64), np.ones(20)])
        chain = np.linalg.inv(sweeps[0].odom_from_base) @ sweep.odom_from_base @ sweep.base_from_sensor
        np.testing.assert_allclose(points[i, :, :3], (homogeneous @ chain.T)[:, :3], atol=2e-5)
        np.testing.assert_array_equal(points[i, :, 3], sweep.points[:, 3])
        np.testing.assert_allclose(points[i, :, 4], i * 0.05, atol=1e-7)


def test_older_sweeps_lose_the_ego_vehicles_own_returns_and_the_newest_keeps_them():
    # Half a metre from the sensor; beside it in one coordinate only; far away.
    points = np.array([[0.5, -0.5, 0, 1], [0.5, 1.5, 0, 1], [1.0, 0.2, 0, 1], [9, 9, 0, 1]], np.float32)
    sweeps = [Sweep(points, 10**9 - i, np.eye(4), np.eye(4)) for i in range(2)]
    accumulated = accumulate_sweeps(sweeps)
    np.testing.assert_array_equal(accumulated[:, :4], np.concatenate([points, points[1:]]))


@pytest.mark.parametrize("counts", [(0,), (5, 0), (0, 5), (0, 0, 0)])
def test_sweeps_may_be_empty(counts):
    accumulated = accumulate_sweeps([Sweep(far_points(n), -i, SENSOR, np.eye(4)) for i, n in enumerate(counts)])
    assert accumulated.shape == (sum(counts), 5) and accumulated.dtype == np.float32


@pytest.mark.parametrize(
    ("period_ms", "chosen"),
    [
        (50, [0, 2, 4, 6, 8]),  # nuScenes' LiDAR: every second turn
        (100, [0, 1, 2, 3, 4]),
        (200, [0, 1, 2, 3, 4]),
        (20, [0, 4, 8, 12, 16]),  # the first at least 75 ms after the one before
    ],
)
def test_sweeps_of_a_frame_are_about_an_interval_apart_whatever_the_lidars_rate(period_ms, chosen):
    stamps = [10**12 - i * period_ms * 10**6 for i in range(40)]
    assert spaced(stamps, 5, 0.1) == chosen
    assert spaced(stamps, 5, None) == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30), st.integers(1, 10))
def test_spacing_keeps_the_newest_sweep_and_never_takes_two_that_are_near(ages, sweeps):
    stamps = [-age for age in sorted(ages)]
    chosen = spaced(stamps, sweeps, 0.1)
    assert chosen[0] == 0 and 1 <= len(chosen) <= sweeps
    assert all(stamps[a] - stamps[b] >= 75_000_000 for a, b in itertools.pairwise(chosen))

"""Deviations of boxes that were moved by known amounts are those amounts."""

import numpy as np
import pytest

from vexkd_model.evaluation.box_errors import box_errors, deviations_by_range
from vexkd_model.types import DETECTION_CLASSES, DEVIATION_FIELDS

CAR, BARRIER = 0, DETECTION_CLASSES.index("barrier")


def box(x, y, z=0.0, yaw=0.0, vx=0.0, vy=0.0):
    return [x, y, z, 4, 2, 1.5, yaw, vx, vy]


def test_a_box_that_is_found_too_far_away_is_off_along_the_line_of_sight_alone():
    found, truth = np.array([box(0, 22, z=0.5)], np.float32), np.array([box(0, 20)], np.float32)
    np.testing.assert_allclose(box_errors(found, truth, np.array([CAR])), [[2, 0, 0.5, 0, 0, 0]], atol=1e-6)


def test_velocities_are_compared_along_the_heading_that_was_found():
    found = np.array([box(10, 0, yaw=np.pi / 2, vx=1, vy=5)], np.float32)
    truth = np.array([box(10, 0, yaw=np.pi / 2, vx=0, vy=3)], np.float32)
    np.testing.assert_allclose(box_errors(found, truth, np.array([CAR]))[0, 4:], [2, -1], atol=1e-6)
    truth[:, 7:] = np.nan
    assert np.isnan(box_errors(found, truth, np.array([CAR]))[0, 4:]).all()


@pytest.mark.parametrize(("label", "error"), [(CAR, np.pi - 0.1), (BARRIER, -0.1)])
def test_only_a_barrier_may_be_turned_round(label, error):
    found, truth = np.array([box(10, 0, yaw=3.0)]), np.array([box(10, 0, yaw=3.1 - np.pi)])
    assert box_errors(found, truth, np.array([label]))[0, 3] == pytest.approx(error, abs=1e-6)


def normal_errors(count, scale, seed=0):
    return np.random.default_rng(seed).normal(size=(count, len(DEVIATION_FIELDS))) * scale


def test_of_normal_errors_the_standard_deviations_are_found_by_range():
    near, far = normal_errors(4000, [0.1, 0.2, 0.05, 0.3, 1, 2]), normal_errors(4000, 1.0, seed=1)
    errors, distances = np.concatenate([near, far]), np.repeat([5.0, 45.0], 4000)
    first, last = deviations_by_range(errors, distances)
    assert (first.to, last.to, first.matches, last.matches) == (10, None, 4000, 4000)
    np.testing.assert_allclose([first.radial, first.yaw, first.v_across], [0.1, 0.3, 2], rtol=0.06)
    np.testing.assert_allclose([last.radial, last.z], 1, rtol=0.06)


def test_a_few_headings_that_are_turned_round_do_not_widen_the_rest():
    errors = normal_errors(2000, 0.1)
    errors[::25, 3] = np.pi
    (only,) = deviations_by_range(errors, np.full(2000, 15.0))
    assert only.yaw == pytest.approx(0.1, rel=0.15) and np.std(errors[:, 3]) > 0.5


def test_ranges_of_too_few_matches_are_joined_and_none_is_left_out():
    distances = np.repeat([5.0, 15.0, 25.0, 35.0, 45.0], [30, 90, 300, 120, 20])
    parts = deviations_by_range(normal_errors(len(distances), 1.0), distances)
    assert [(part.to, part.matches) for part in parts] == [(20, 120), (30, 300), (None, 140)]
    assert deviations_by_range(normal_errors(99, 1.0), np.full(99, 5.0)) == ()


def test_an_unknown_velocity_has_no_deviation():
    errors = normal_errors(200, 1.0)
    errors[:, 4:] = np.nan
    (only,) = deviations_by_range(errors, np.full(200, 5.0))
    assert only.v_along is None and only.radial > 0

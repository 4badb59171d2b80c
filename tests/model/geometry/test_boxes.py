"""Boxes against hand-computed corners and the devkit's own Box."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from vexkd_model.geometry.boxes import (
    corners,
    corners_bev,
    nuscenes_from_values,
    points_in_boxes,
    values_from_nuscenes,
    wrap_angle,
)
from vexkd_model.geometry.transforms import inverse, matrix_from_pose

CAR = np.array([[10.0, 2.0, 1.0, 4.0, 2.0, 1.5, 0.0, 3.0, 0.0]])


def ground_pose(x, y, z, yaw):
    return matrix_from_pose([x, y, z], [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])


def seen_from(dst_from_src, values):
    """Move boxes from frame `src` to `dst`: write them as annotations of `src`, read them in `dst`."""
    return values_from_nuscenes(dst_from_src, *nuscenes_from_values(np.eye(4), values))


metres = st.floats(-1000, 1000)
angle = st.floats(-np.pi, np.pi)
pose = st.builds(ground_pose, metres, metres, metres, angle)
box = st.tuples(
    metres,
    metres,
    metres,
    st.floats(0.1, 20),
    st.floats(0.1, 20),
    st.floats(0.1, 20),
    angle,
    st.floats(-30, 30),
    st.floats(-30, 30),
).map(lambda row: np.array([row]))
unit_quaternion = (
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1).map(lambda q: Quaternion(q).unit)
)


def test_footprint_starts_front_left_and_runs_counter_clockwise():
    assert corners_bev(CAR)[0].tolist() == [[12, 3], [8, 3], [8, 1], [12, 1]]


def test_a_quarter_turn_to_the_left_puts_the_front_on_the_left():
    turned = CAR.copy()
    turned[0, 6] = np.pi / 2
    np.testing.assert_allclose(corners_bev(turned)[0], [[9, 4], [9, 0], [11, 0], [11, 4]], atol=1e-12)


def test_corners_are_the_footprint_at_the_bottom_then_at_the_top():
    solid = corners(CAR.astype(np.float32))
    assert solid.shape == (1, 8, 3) and solid.dtype == np.float32
    assert solid[0, :, 2].tolist() == [0.25] * 4 + [1.75] * 4
    np.testing.assert_array_equal(solid[0, :4, :2], solid[0, 4:, :2])
    np.testing.assert_array_equal(solid[0, :4, :2], corners_bev(CAR)[0])


def test_no_boxes_have_no_corners_and_hold_no_points():
    nothing = np.zeros((0, 9), np.float32)
    assert corners(nothing).shape == (0, 8, 3)
    assert points_in_boxes(np.zeros((5, 3)), nothing).shape == (0, 5)
    assert seen_from(np.eye(4), nothing).shape == (0, 9)


@pytest.mark.parametrize(("angle", "wrapped"), [(np.pi, np.pi), (-np.pi, np.pi), (3 * np.pi / 2, -np.pi / 2), (0, 0)])
def test_angles_wrap_to_the_half_open_turn(angle, wrapped):
    assert wrap_angle(angle) == pytest.approx(wrapped)


def test_a_vehicle_that_drove_on_and_turned_left_sees_the_car_behind_on_the_right():
    base_from_old = inverse(ground_pose(12.0, 0.0, 0.0, np.pi / 2))
    moved = seen_from(base_from_old, CAR)
    np.testing.assert_allclose(moved[0], [2, 2, 1, 4, 2, 1.5, -np.pi / 2, 0, -3], atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(pose, box)
def test_transformed_boxes_have_the_transformed_corners_and_come_back(dst_from_src, values):
    moved = seen_from(dst_from_src, values)
    expected = corners(values)[0] @ dst_from_src[:3, :3].T + dst_from_src[:3, 3]
    np.testing.assert_allclose(corners(moved)[0], expected, atol=1e-8)
    assert -np.pi < moved[0, 6] <= np.pi
    assert np.hypot(*moved[0, 7:9]) == pytest.approx(np.hypot(*values[0, 7:9]), abs=1e-9)
    back = seen_from(inverse(dst_from_src), moved)
    np.testing.assert_allclose(np.delete(back, 6, axis=1), np.delete(values, 6, axis=1), atol=1e-8)
    assert np.cos(back[0, 6] - values[0, 6]) == pytest.approx(1.0)


def test_the_velocity_of_a_moving_car_points_where_its_next_position_lies():
    dst_from_src = ground_pose(5.0, -3.0, 0.0, 0.7)
    later = CAR.copy()
    later[0, :2] += 0.1 * CAR[0, 7:9]
    now, then = (seen_from(dst_from_src, values)[0] for values in (CAR, later))
    np.testing.assert_allclose((then[:2] - now[:2]) / 0.1, now[7:9], atol=1e-9)


def test_an_unknown_velocity_stays_unknown():
    values = CAR.astype(np.float32)
    values[0, 7:] = np.nan
    moved = seen_from(ground_pose(1.0, 2.0, 3.0, 1.0), values)
    assert moved.dtype == np.float64
    assert np.isnan(moved[0, 7:]).all() and np.isfinite(moved[0, :7]).all()


@settings(max_examples=200, deadline=None)
@given(box, unit_quaternion, st.tuples(metres, metres, metres))
def test_nuscenes_notation_agrees_with_the_devkits_transform_chain(values, rotation, translation):
    x, y, z, length, width, height, yaw, vx, vy = values[0]
    devkit = Box([x, y, z], [width, length, height], Quaternion(axis=[0, 0, 1], radians=yaw), velocity=(vx, vy, 0.0))
    devkit.rotate(rotation)
    devkit.translate(np.array(translation))
    global_from_base = matrix_from_pose(translation, rotation.elements)

    centre, size, quaternion, velocity = (column[0] for column in nuscenes_from_values(global_from_base, values))

    np.testing.assert_allclose(centre, devkit.center, atol=1e-6)
    np.testing.assert_allclose(size, devkit.wlh, atol=1e-6)
    assert abs(quaternion @ devkit.orientation.elements) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(velocity, devkit.velocity[:2], atol=1e-6)

    back = values_from_nuscenes(
        inverse(global_from_base), [devkit.center], [devkit.wlh], [devkit.orientation.elements], [devkit.velocity]
    )
    np.testing.assert_allclose(np.delete(back, 6, axis=1), np.delete(values, 6, axis=1), atol=1e-6)
    assert np.cos(back[0, 6] - yaw) == pytest.approx(1.0, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_points_inside_are_those_that_the_devkit_counts(seed):
    random = np.random.default_rng(seed)
    values = np.concatenate(
        [random.uniform(-3, 3, (4, 3)), random.uniform(0.5, 6, (4, 3)), random.uniform(-4, 4, (4, 1))], axis=1
    )
    points = random.uniform(-5, 5, (200, 3))
    expected = [
        points_in_box(Box(row[:3], row[[4, 3, 5]], Quaternion(axis=[0, 0, 1], radians=row[6])), points.T)
        for row in values
    ]
    np.testing.assert_array_equal(points_in_boxes(points, values), expected)

"""Rigid transforms against pyquaternion and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyquaternion import Quaternion

from vexkd_model.geometry.transforms import apply, inverse, matrix_from_pose, quaternion_from_matrix, yaw_of

metres = st.floats(-2000, 2000)
translation = st.tuples(metres, metres, metres)
quaternion = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


def test_a_sensor_turned_left_sees_the_vehicles_front_on_its_right():
    base_from_sensor = matrix_from_pose([1.0, 0.0, 2.0], [np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    ahead_of_the_vehicle = np.array([[11.0, 0.0, 2.0]])
    np.testing.assert_allclose(apply(inverse(base_from_sensor), ahead_of_the_vehicle), [[0, -10, 0]], atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(translation, quaternion)
def test_the_rotation_is_pyquaternions(where, q):
    matrix = matrix_from_pose(where, q)
    np.testing.assert_allclose(matrix[:3, :3], Quaternion(q).rotation_matrix, atol=1e-9)
    np.testing.assert_array_equal(matrix[:, 3], [*where, 1])


@settings(max_examples=100, deadline=None)
@given(quaternion)
def test_a_quaternion_comes_back_from_its_matrix_up_to_its_sign(q):
    back = quaternion_from_matrix(matrix_from_pose([0, 0, 0], q))
    assert abs(back @ (np.array(q) / np.linalg.norm(q))) == pytest.approx(1.0, abs=1e-9) and back[0] >= 0


@pytest.mark.parametrize("axis", np.eye(3))
def test_half_turns_where_other_methods_divide_by_zero_are_exact(axis):
    q = np.array([0.0, *axis])
    assert abs(quaternion_from_matrix(matrix_from_pose([0, 0, 0], q)) @ q) == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(translation, quaternion)
def test_a_transform_and_its_inverse_cancel(where, q):
    matrix = matrix_from_pose(where, q)
    np.testing.assert_allclose(inverse(matrix) @ matrix, np.eye(4), atol=1e-8)


@settings(max_examples=100, deadline=None)
@given(st.floats(-3.14, 3.14))
def test_yaw_is_the_heading_of_the_x_axis(yaw):
    assert yaw_of(matrix_from_pose([0, 0, 0], Quaternion(axis=[0, 0, 1], radians=yaw).elements)) == pytest.approx(yaw)


def test_points_keep_their_dtype_and_may_be_none():
    matrix = matrix_from_pose([1, 2, 3], [1, 0, 0, 0])
    assert apply(matrix, np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert apply(matrix, np.ones((2, 3), np.float32)).dtype == np.float32
    np.testing.assert_array_equal(apply(matrix, np.ones((1, 3))), [[2, 3, 4]])

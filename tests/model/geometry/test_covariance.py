"""Covariances turn deviations along the line of sight, or along a heading, into the axes of the message."""

import numpy as np

from vexkd_model.geometry.covariance import pose_covariances, twist_covariances
from vexkd_model.types import Boxes, Prediction

SIGMAS = [3.0, 1.0, 0.5, 0.1, 2.0, 0.25]


def seen_at(*places, deviations=None):
    boxes = np.array([[x, y, 0, 4, 2, 1.5, 0.3, 0, 0] for x, y in places], np.float32).reshape(-1, 9)
    labels, scores = np.zeros(len(boxes), np.int64), np.ones(len(boxes), np.float32)
    if deviations is None:
        deviations = np.tile(np.float32(SIGMAS), (len(boxes), 1))
    return Prediction(Boxes(boxes, labels), scores, None, None, 0, deviations=deviations)


def test_ahead_the_line_of_sight_is_x_and_to_the_left_it_is_y():
    ahead, left = pose_covariances(seen_at((20, 0), (0, 20)))
    np.testing.assert_allclose(np.diag(ahead), [9, 1, 0.25, 0, 0, 0.01], atol=1e-6)
    np.testing.assert_allclose(np.diag(left), [1, 9, 0.25, 0, 0, 0.01], atol=1e-6)


def test_in_any_direction_the_longest_axis_points_at_the_box():
    places = [(10, 5), (-3, 20), (-7, -7), (30, -2)]
    for (x, y), covariance in zip(places, pose_covariances(seen_at(*places)), strict=True):
        np.testing.assert_array_equal(covariance, covariance.T)
        variances, axes = np.linalg.eigh(covariance[:2, :2])
        np.testing.assert_allclose(variances, [1, 9], atol=1e-5)
        assert abs(axes[:, 1] @ [x, y]) / np.hypot(x, y) > 0.9999


def test_twists_are_along_and_across_the_heading():
    (only,) = twist_covariances(seen_at((20, 0)))
    np.testing.assert_allclose(np.diag(only), [4, 0.0625, 0, 0, 0, 0], atol=1e-6)


def test_what_is_unknown_stays_zero():
    unknown = seen_at((20, 0), deviations=np.full((1, 6), np.nan, np.float32))
    without = Prediction(unknown.boxes, unknown.scores, None, None, 0)
    for covariances in (pose_covariances, twist_covariances):
        assert not covariances(unknown).any() and not covariances(without).any()
        assert covariances(seen_at()).shape == (0, 6, 6)

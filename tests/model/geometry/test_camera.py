"""Pinhole cameras against hand-computed pixels, brute force and the devkit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import BoxVisibility, view_points
from pyquaternion import Quaternion
from support.rig import lens, mounting

from vexkd_model.geometry.boxes import corners, tilted_corners
from vexkd_model.geometry.camera import EDGES, FRONT, NEAR_M, inside, project, projection, visible_boxes, visible_edges
from vexkd_model.geometry.transforms import matrix_from_pose

BASE_FROM_CAMERA = mounting()
SIZE = (160, 90)
INTRINSICS = lens(100.0, *SIZE)
AHEAD = projection(INTRINSICS, BASE_FROM_CAMERA)
# our order of corners in the devkit's `Box.corners()`
OF_DEVKIT = [3, 7, 6, 2, 0, 4, 5, 1]


def box(x, y, z, length=4.0, width=2.0, height=1.5, yaw=0.0):
    return np.array([[x, y, z, length, width, height, yaw, 0, 0]], np.float64)


def edges_of(values):
    return visible_edges(AHEAD, corners(values), SIZE)


def test_a_point_ahead_on_the_left_and_above_lands_left_of_and_above_the_middle():
    pixels, depth = project(AHEAD, np.array([[10.0, 2.0, 2.5]]))
    np.testing.assert_allclose(pixels, [[80 - 100 * 2 / 10, 45 - 100 * 1 / 10]])
    assert depth.tolist() == [10.0]


def test_a_point_behind_the_camera_has_no_pixel():
    pixels, depth = project(AHEAD, np.array([[-10.0, 2.0, 2.5], [NEAR_M / 2, 0.0, 1.5]]))
    assert np.isnan(pixels).all() and depth.tolist() == [-10.0, NEAR_M / 2]
    assert not inside(pixels, SIZE).any()


def test_the_image_holds_its_upper_left_border_and_not_its_lower_right_one():
    assert inside(np.array([[0.0, 0.0], [159.9, 89.9], [160.0, 5.0], [5.0, 90.0], [-0.1, 5.0]]), SIZE).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_resized_cropped_mirrored_image_moves_pixels_as_the_image_was_moved():
    halved = np.diag([0.5, 0.5, 1.0])
    cropped = np.array([[1, 0, -10], [0, 1, -5], [0, 0, 1.0]])
    mirrored = np.array([[-1, 0, 60], [0, 1, 0], [0, 0, 1.0]])  # of an image 60 wide
    points = np.random.default_rng(0).uniform([5, -3, 0], [30, 3, 3], (50, 3))
    stored, _ = project(AHEAD, points)
    moved, _ = project(projection(mirrored @ cropped @ halved @ INTRINSICS, BASE_FROM_CAMERA), points)
    np.testing.assert_allclose(moved, np.column_stack([60 - (stored[:, 0] / 2 - 10), stored[:, 1] / 2 - 5]))


def test_a_scaled_and_mirrored_world_shows_the_same_image():
    augmentation = np.diag([1.1, -1.1, 1.1, 1.0])
    points = np.random.default_rng(0).uniform([5, -3, 0], [30, 3, 3], (50, 3))
    pixels, depth = project(AHEAD, points)
    augmented = projection(INTRINSICS, augmentation @ BASE_FROM_CAMERA)
    again, same_depth = project(augmented, points @ augmentation[:3, :3])
    np.testing.assert_allclose(again, pixels)
    np.testing.assert_allclose(same_depth, depth)


def test_a_box_in_full_view_keeps_all_twelve_edges_between_its_projected_corners():
    car = box(15.0, 1.0, 0.75, yaw=0.4)
    pixels, _ = project(AHEAD, corners(car))
    np.testing.assert_allclose(edges_of(car)[0], pixels[0][EDGES])


def test_edges_join_corners_that_differ_along_one_side_and_each_corner_has_three():
    solid = corners(box(0, 0, 0))[0]
    assert (np.abs(solid[EDGES[:, 0]] - solid[EDGES[:, 1]]) > 0).sum(axis=1).tolist() == [1] * 12
    assert np.bincount(EDGES.ravel()).tolist() == [3] * 8
    assert (solid[FRONT, 0] == 2.0).all()


@pytest.mark.parametrize(
    ("place", "seen"),
    [
        (box(15, 0, 1), True),
        (box(-15, 0, 1), False),
        (box(15, 40, 1), False),
        (box(15, -40, 1), False),
        (box(15, 0, 30), False),
        (box(3, 3, 0.75, length=20), True),
        (box(0, 0, 1, length=1, width=0.1), True),
        (box(0, 0, 1.5, 100, 100, 100), False),
    ],
    ids=["ahead", "behind", "left", "right", "above", "beside and ahead", "around the camera", "all around"],
)
def test_a_box_is_visible_where_an_edge_of_it_is(place, seen):
    assert visible_boxes(edges_of(place)).tolist() == [seen]


def test_no_boxes_have_no_edges():
    nothing = edges_of(np.zeros((0, 9)))
    assert nothing.shape == (0, 12, 2, 2) and visible_boxes(nothing).shape == (0,)


@settings(max_examples=150)
@given(st.integers(0, 10**6))
def test_edges_are_cut_where_walking_along_them_leaves_the_image(seed):
    random = np.random.default_rng(seed)
    values = np.concatenate(
        [random.uniform([-8, -8, -1], [14, 8, 4]), random.uniform(0.3, 9, 3), random.uniform(-4, 4, 1)]
    )[None]
    steps = np.linspace(0, 1, 2001)[:, None]
    for (a, b), found in zip(EDGES, edges_of(values)[0], strict=True):
        start, end = corners(values)[0][[a, b]]
        pixels, _ = project(AHEAD, start + steps * (end - start))
        walked = pixels[inside(pixels, SIZE)]
        if len(walked) < 2:  # none, or a corner of the image that is cut between two steps
            continue
        # beside the first and last step in the image lie the cuts, no farther away than the steps from one another
        step = np.linalg.norm(np.diff(walked, axis=0), axis=1).max() + 1e-6
        assert np.linalg.norm(found - walked[[0, -1]], axis=1).max() <= 2 * step + 0.1
        assert inside(np.clip(found, 0, np.array(SIZE) - 1e-9), SIZE).all()
        assert ((found > -1e-6) & (found < np.array(SIZE) + 1e-6)).all()


def test_an_edge_that_no_step_finds_in_the_image_is_not_drawn():
    random = np.random.default_rng(5)
    for _ in range(200):
        values = np.concatenate([random.uniform([-20, -20, -3], [3, 20, 6]), random.uniform(0.3, 6, 3), [0.3]])[None]
        start, end = np.moveaxis(corners(values)[0][EDGES], 1, 0)
        walk = start[:, None] + np.linspace(0, 1, 400)[:, None] * (end - start)[:, None]
        pixels, _ = project(AHEAD, walk)
        near = (pixels > -40) & (pixels < np.array(SIZE) + 40)  # a margin: steps may pass over a corner
        found = np.isfinite(edges_of(values)[0]).all(axis=(1, 2))
        assert not (found & ~near.all(axis=-1).any(axis=-1)).any()


@settings(max_examples=100)
@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(-3.1, 3.1))
def test_a_box_that_stands_upright_in_a_tilted_world_has_the_devkits_corners(roll, pitch, yaw):
    tilt = Quaternion(axis=[1, 0, 0], radians=roll) * Quaternion(axis=[0, 1, 0], radians=pitch)
    devkit = Box([10, 2, 1], [2.0, 4.0, 1.5], tilt * Quaternion(axis=[0, 0, 1], radians=yaw))
    x, y, _ = devkit.orientation.rotation_matrix[:, 0]
    values = box(10, 2, 1, yaw=np.arctan2(y, x))
    expected = devkit.corners().T[OF_DEVKIT]
    np.testing.assert_allclose(tilted_corners(values, tilt.rotation_matrix[:, 2][None])[0], expected, atol=1e-9)


def test_a_box_on_level_ground_is_not_tilted():
    values = np.concatenate([box(10, 2, 1, yaw=0.3), box(-3, 2, 1, yaw=-2)]).astype(np.float32)
    found = tilted_corners(values, np.tile([0, 0, 1.0], (2, 1)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, corners(values), atol=1e-6)


def test_points_are_projected_as_the_devkit_projects_them():
    random = np.random.default_rng(1)
    rotation, translation = Quaternion(random.normal(size=4)).unit, random.uniform(-2, 2, 3)
    points = random.uniform(-20, 20, (500, 3))
    in_camera = (points - translation) @ rotation.rotation_matrix
    pixels, depth = project(projection(INTRINSICS, matrix_from_pose(translation, rotation.elements)), points)
    front = depth >= NEAR_M
    np.testing.assert_allclose(depth, in_camera[:, 2], atol=1e-9)
    np.testing.assert_allclose(pixels[front], view_points(in_camera[front].T, INTRINSICS, True)[:2].T, atol=1e-6)
    assert np.isnan(pixels[~front]).all() and 100 < front.sum() < 400


def test_boxes_of_a_real_keyframe_land_where_the_devkit_draws_them(keyframe_dataroot):
    """The camera path alone: the devkit's own corners in the global frame, through our matrices."""
    from nuscenes.nuscenes import NuScenes

    nusc = NuScenes("v1.0-mini", str(keyframe_dataroot), verbose=False)
    sample, compared = nusc.sample[0], 0
    for channel in (name for name in sample["data"] if name.startswith("CAM")):
        record = nusc.get("sample_data", sample["data"][channel])
        _, boxes, intrinsics = nusc.get_sample_data(record["token"], box_vis_level=BoxVisibility.NONE)
        mounting = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
        pose = nusc.get("ego_pose", record["ego_pose_token"])
        matrix = projection(
            intrinsics,
            matrix_from_pose(pose["translation"], pose["rotation"])
            @ matrix_from_pose(mounting["translation"], mounting["rotation"]),
        )
        for in_camera in boxes:
            pixels, depth = project(matrix, nusc.get_box(in_camera.token).corners().T)
            expected = view_points(in_camera.corners(), intrinsics, normalize=True)[:2].T
            front = depth >= NEAR_M
            np.testing.assert_allclose(pixels[front], expected[front], atol=0.01)
            compared += front.all()
    assert compared > 68

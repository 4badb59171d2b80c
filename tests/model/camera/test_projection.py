"""Projection in tensors against geometry.camera, which is NumPy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rig import AHEAD, SMALL_LENS, camera_batch, turned

from vexkd_model.camera.projection import MIN_DEPTH, image_from_base, inverse_3x3, product
from vexkd_model.camera.projection import project as project_tensors
from vexkd_model.geometry.camera import project, projection


@st.composite
def augmented_cameras(draw):
    """base_from_camera of a tilted camera somewhere on the vehicle, turned, grown and perhaps mirrored."""
    tilt = np.eye(4)
    angle = draw(st.floats(-0.5, 0.5))
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grown = np.diag([1, draw(st.sampled_from([1, -1])), 1, 1.0]) * draw(st.floats(0.8, 1.2))
    grown[3, 3] = 1
    base_from_camera = grown @ turned(draw(st.floats(-np.pi, np.pi))) @ AHEAD @ tilt
    base_from_camera[:3, 3] += [draw(st.floats(-3, 3)) for _ in range(3)]
    return base_from_camera


@settings(max_examples=100)
@given(st.integers(0, 10**6))
def test_the_inverse_is_numpys_also_of_matrices_that_mirror(seed):
    random = np.random.default_rng(seed)
    matrix = random.uniform(-2, 2, (4, 3, 3))
    matrix = matrix[np.abs(np.linalg.det(matrix)) > 0.3]
    found = inverse_3x3(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, np.linalg.inv(matrix), atol=1e-10)


def test_points_project_as_the_geometry_module_projects_them_under_any_augmentation():
    mirrored = np.diag([1.1, -1.1, 1.1, 1.0])
    bases = [[AHEAD, turned(2) @ AHEAD], [mirrored @ AHEAD, mirrored @ turned(-1) @ AHEAD]]
    with torch.autocast("cpu", torch.bfloat16):
        found = image_from_base(camera_batch(bases))
    for frame in range(2):
        for camera in range(2):
            expected = projection(SMALL_LENS, bases[frame][camera])
            np.testing.assert_allclose(found[frame, camera].numpy(), expected, atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(augmented_cameras(), st.integers(0, 10**6))
def test_pixels_and_depths_are_those_of_float64(base_from_camera, seed):
    points = np.random.default_rng(seed).uniform(-50, 50, (60, 3))
    pixels, depth = project(projection(SMALL_LENS, base_from_camera), points)
    clear = depth > 0.5
    for dtype, atol in ((torch.float64, 1e-8), (torch.float32, 2e-4)):
        found, found_depth = project_tensors(
            image_from_base(camera_batch([[base_from_camera]], dtype=dtype))[0, 0], torch.tensor(points, dtype=dtype)
        )
        assert found.dtype == found_depth.dtype == dtype
        np.testing.assert_allclose(found_depth.numpy(), depth, atol=atol)
        # A pixel's error grows with the slope of its ray and as depth shrinks.
        scale = (1 + np.abs(pixels[clear])) * 50 / depth[clear, None]
        assert (np.abs(found.numpy()[clear] - pixels[clear]) <= atol * scale).all()


def test_every_camera_of_every_frame_projects_for_itself():
    bases = [[AHEAD, turned(2) @ AHEAD, turned(-2) @ AHEAD], [turned(1) @ AHEAD, turned(3) @ AHEAD, AHEAD]]
    matrices = image_from_base(camera_batch(bases))
    points = torch.from_numpy(np.random.default_rng(0).uniform(-20, 20, (7, 4, 3))).float()
    pixels, depth = project_tensors(matrices[:, :, None, None], points)
    assert pixels.shape == (2, 3, 7, 4, 2) and depth.shape == (2, 3, 7, 4)
    for frame in range(2):
        for camera in range(3):
            alone, depth_alone = project_tensors(matrices[frame, camera], points)
            assert torch.equal(pixels[frame, camera], alone) and torch.equal(depth[frame, camera], depth_alone)


def test_more_than_three_columns_of_points_change_nothing():
    matrices = image_from_base(camera_batch([[AHEAD]]))[0, 0]
    points = torch.randn(9, 5)
    for wide, narrow in zip(project_tensors(matrices, points), project_tensors(matrices, points[:, :3]), strict=True):
        assert torch.equal(wide, narrow)


@pytest.mark.parametrize("x", [0.0, -1e-6, -5.0])
def test_a_point_in_or_behind_the_image_plane_has_a_depth_that_says_so_and_finite_pixels(x):
    pixels, depth = project_tensors(image_from_base(camera_batch([[AHEAD]]))[0, 0], torch.tensor([[x, 0.3, 1.0]]))
    assert depth.item() == pytest.approx(x) and not depth > MIN_DEPTH and pixels.isfinite().all()


def test_autocast_rounds_no_position():
    matrices, points = image_from_base(camera_batch([[turned(1) @ AHEAD]]))[0, 0], torch.randn(50, 3) * 20
    exact = (*project_tensors(matrices, points), product(matrices[:, :3], matrices))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = (*project_tensors(matrices, points), product(matrices[:, :3], matrices))
    assert all(torch.equal(a, b) for a, b in zip(exact, rounded, strict=True))

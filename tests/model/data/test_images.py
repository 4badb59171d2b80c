"""Images: pixels and calibration move together, whatever is done to an image."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rig import CAMERAS, IMAGE_SIZE
from support.street import SQUARE, base_from_camera, boxes_in_base, picture, pixels_of

from vexkd_model.config.camera import ImageAugmentConfig, ImageConfig
from vexkd_model.data.augment import BevAugmentation
from vexkd_model.data.image_augment import ImageAugmentation
from vexkd_model.data.image_files import load_image, load_view
from vexkd_model.data.images import StoredImage, reduction_of, shrunk, view_of, warp
from vexkd_model.errors import UserError
from vexkd_model.types import CameraImage

AUGMENT = ImageAugmentConfig(zoom=(0.864, 1.25), rotation=0.0942, flip=True)
IMAGES = ImageConfig(width=704, height=256, zoom=1.09, augment=AUGMENT)
SMALL = ImageConfig(width=160, height=64, zoom=1.09, augment=AUGMENT)
augmentation = st.builds(ImageAugmentation, st.floats(0.8, 1.3), st.floats(0, 1), st.booleans(), st.floats(-0.1, 0.1))


def project(image: CameraImage, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) pixels and (N,) depths [m] of points (N, 3) of base_link: the definition, in homogeneous coordinates."""
    placed = np.linalg.inv(image.base_from_camera) @ np.column_stack([points, np.ones(len(points))]).T
    u, v, depth = image.image_from_camera @ placed[:3]
    return np.column_stack([u / depth, v / depth]), depth


def test_each_camera_is_indexed_with_its_own_stamp_and_where_the_vehicle_then_was(tiny_index):
    record = tiny_index[1]
    assert [camera.name for camera in record.cameras] == [
        "CAM_FRONT_LEFT",
        "CAM_FRONT",
        "CAM_FRONT_RIGHT",
        "CAM_BACK_LEFT",
        "CAM_BACK",
        "CAM_BACK_RIGHT",
    ]
    for camera in record.cameras:
        place, _, delay = CAMERAS[camera.name]
        assert (camera.stamp_ns - record.stamp_ns) * 1e-9 == pytest.approx(delay, abs=1e-6)
        assert camera.size == IMAGE_SIZE and camera.path.is_file()
        np.testing.assert_allclose(camera.base_from_sensor[:3, 3], place)
        np.testing.assert_allclose(camera.base_from_camera, base_from_camera(camera.name, 1), atol=1e-5)
        np.testing.assert_array_equal(camera.intrinsics[:, 2], [160, 90, 1])


def test_things_are_seen_where_they_are(tiny_index):
    """The white squares that were painted around the projected centres lie where our calibration projects them."""
    seen = 0
    for k, camera in [(keyframe, camera) for keyframe in range(2) for camera in tiny_index[keyframe].cameras]:
        image = load_image(camera)
        centres, depths = project(image, np.array([row[:3] for _, row in boxes_in_base(k)]))
        expected, expected_depths = pixels_of(camera.name, k, np.array([row[:3] for _, row in boxes_in_base(k)]))
        np.testing.assert_allclose(depths, expected_depths, atol=1e-4)
        np.testing.assert_allclose(centres[depths > 1], expected[depths > 1], atol=0.01)
        assert np.abs(image.pixels.astype(int) - picture(camera.name, k)).mean() < 2
        for u, v in centres[(depths > 1) & (depths < 60)]:
            if 0 <= u < IMAGE_SIZE[0] and 0 <= v < IMAGE_SIZE[1]:
                assert image.pixels[int(v), int(u)].min() > 200
                seen += 1
    assert seen > 10


@given(augmentation)
def test_a_square_is_found_where_the_affine_map_says(augment):
    stored = np.zeros((180, 320, 3), np.uint8)
    stored[120 : 120 + SQUARE, 150 : 150 + SQUARE] = 255
    affine = augment.image_from_stored((320, 180), (320, 128))
    pixels = warp(stored, affine, (320, 128)).astype(float)[..., 0]
    if pixels[[0, -1]].any() or pixels[:, [0, -1]].any():
        return  # cut by the crop
    v, u = np.mgrid[:128, :320] + 0.5
    found = np.array([(pixels * u).sum(), (pixels * v).sum()]) / pixels.sum()
    expected = affine @ [150 + SQUARE / 2, 120 + SQUARE / 2, 1]
    np.testing.assert_allclose(found, expected[:2], atol=0.15)


def test_the_published_resize_and_crop_by_hand():
    """1600×900 at 0.48, cropped to 704×256 at the bottom: BEVDet's and BEVFusion's test view."""
    affine = ImageAugmentation(zoom=0.48 / 0.44).image_from_stored((1600, 900), (704, 256))
    np.testing.assert_allclose(affine, [[0.48, 0, -32], [0, 0.48, -176], [0, 0, 1]], atol=1e-9)


def test_a_flip_mirrors_and_a_turn_is_clockwise():
    flipped = ImageAugmentation(1.0, flip=True).image_from_stored((704, 256), (704, 256))
    np.testing.assert_allclose(flipped @ [10.5, 20.5, 1], [693.5, 20.5, 1])
    turned = ImageAugmentation(1.0, rotation=np.pi / 2).image_from_stored((100, 100), (100, 100))
    np.testing.assert_allclose(turned @ [90, 50, 1], [50, 90, 1])  # right goes to the bottom


def test_a_narrow_image_leaves_black_beside_it():
    white = np.full((90, 160, 3), 255, np.uint8)
    affine = ImageAugmentation(zoom=0.8, place=0.0).image_from_stored((160, 90), (160, 64))
    pixels = warp(white, affine, (160, 64))
    np.testing.assert_array_equal(pixels[-10, 4:124].min(axis=-1), 255)
    np.testing.assert_array_equal(pixels[:, 132:], 0)


@pytest.mark.parametrize(
    ("scale", "reduction"), [(1.2, 1), (0.55, 1), (0.5, 2), (0.48, 2), (0.26, 2), (0.2, 4), (0.125, 8), (0.01, 8)]
)
def test_an_image_is_decoded_no_smaller_than_it_is_needed(scale, reduction):
    assert reduction_of(np.diag([scale, scale, 1.0])) == reduction


def smooth_picture(width, height):
    random = np.random.default_rng(0)
    return cv2.resize(
        random.integers(0, 256, (height // 20, width // 20, 3)).astype(np.uint8),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )


def written(tiny_index, tmp_path, pixels):
    """A camera of the tiny dataset whose file holds other pixels (RGB)."""
    path = tmp_path / "image.jpg"
    cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    return replace(tiny_index[0].cameras[1], path=path, size=pixels.shape[1::-1])


@pytest.mark.parametrize(
    ("zoom", "size"), [(1.09, (1600, 900)), (0.9, (1600, 900)), (2.0, (1600, 900)), (1.09, (1601, 901))]
)
def test_a_view_is_the_same_from_a_file_and_from_a_topic(tiny_index, tmp_path, zoom, size):
    """Decoded small from JPEG offline, shrunk from the whole image on a vehicle; but for an odd edge's last pixels."""
    record = written(tiny_index, tmp_path, smooth_picture(*size))
    images = IMAGES.model_copy(update={"zoom": zoom})
    offline, whole = load_view(record, images), load_image(record).pixels
    there, image_from_stored = view_of(StoredImage(record.size, lambda reduction: shrunk(whole, reduction)), images)
    np.testing.assert_array_equal(offline.image_from_stored, image_from_stored)
    assert offline.pixels.shape == (256, 704, 3)
    difference = np.abs(offline.pixels.astype(int) - there)[:-2]
    difference = difference[:, (offline.pixels.sum(axis=(0, 2)) > 0) & (there.sum(axis=(0, 2)) > 0)]
    assert difference.mean() < 1 and np.percentile(difference, 99.9) <= 8


def test_a_view_keeps_colours_and_places(tiny_index, tmp_path):
    """Against the whole image, resampled in float64 by the affine map pixel by pixel."""
    stored = smooth_picture(1600, 900)
    view = load_view(written(tiny_index, tmp_path, stored), IMAGES)
    stored_from_image = np.linalg.inv(view.image_from_stored)
    for v, u in ((10, 20), (128, 352), (250, 690), (40, 600)):
        x, y, _ = stored_from_image @ [u + 0.5, v + 0.5, 1]
        around = stored[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(view.pixels[v, u], around, atol=15)


@given(st.floats(-3.2, 3.2), st.floats(0.8, 1.25), st.booleans(), st.booleans(), st.tuples(*[st.floats(-3, 3)] * 3))
def test_a_moved_world_is_seen_at_the_same_pixels(tiny_index, rotation, scale, flip_x, flip_y, translation):
    moves = BevAugmentation(rotation, scale, flip_x, flip_y, translation)
    image = load_image(tiny_index[0].cameras[1])
    points = np.random.default_rng(0).uniform([5, -5, -1], [50, 5, 3], (40, 3))
    before, depths = project(image, points)
    after, depths_after = project(moves.camera(image), moves.points(points))
    np.testing.assert_allclose(after, before, atol=1e-2)  # points move in float32
    np.testing.assert_allclose(depths_after, depths, rtol=1e-5)
    np.testing.assert_allclose(moves.matrix @ [*points[0], 1], [*moves.points(points[:1])[0], 1], atol=1e-5)


def test_draws_stay_in_their_ranges_and_use_them():
    rng = np.random.default_rng(0)
    draws = [ImageAugmentation.draw(rng, AUGMENT) for _ in range(400)]
    for name, low, high in (("zoom", 0.864, 1.25), ("place", 0, 1), ("rotation", -0.0942, 0.0942)):
        values = np.array([getattr(draw, name) for draw in draws])
        assert low <= values.min() < low + 0.1 * (high - low) and high - 0.1 * (high - low) < values.max() <= high
    assert {draw.flip for draw in draws} == {False, True}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "truncated"),
        (lambda path: path.write_bytes(b"no image at all"), "corrupt"),
        (lambda path: path.write_bytes(b""), "corrupt"),
        (lambda path: cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint8)), "another size"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(tiny_index, tmp_path, damage, expected):
    record = tiny_index[0].cameras[0]
    path = tmp_path / "image.jpg"
    shutil.copy(record.path, path)
    damage(path)
    for load in (load_image, lambda record: load_view(record, SMALL)):
        with pytest.raises(UserError, match=expected) as error:
            load(replace(record, path=path))
        assert str(error.value).startswith(f"{path}: ")


def test_a_real_keyframe_projects_as_the_devkit_does(keyframe_dataroot, tmp_path):
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.geometry_utils import view_points

    from vexkd_model.data.index import FrameIndex
    from vexkd_model.data.prepare import prepare

    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    record = FrameIndex.open(tmp_path, "mini_train")[0]
    nusc = NuScenes("v1.0-mini", str(keyframe_dataroot), verbose=False)
    sample, seen = nusc.sample[0], 0
    for camera in record.cameras:
        image = load_image(camera)
        assert image.pixels.shape == (900, 1600, 3)
        _, boxes, intrinsics = nusc.get_sample_data(sample["data"][camera.name])
        for box in boxes:
            # The devkit gives the box in the camera's frame; in base_link it must be one of the index.
            base = camera.base_from_camera @ [*box.center, 1]
            nearest = np.abs(record.boxes.values[:, :3] - base[:3]).sum(axis=1).argmin()
            np.testing.assert_allclose(record.boxes.values[nearest, :3], base[:3], atol=1e-3)
            devkit = view_points(box.center[:, None], np.array(intrinsics), normalize=True)[:2, 0]
            found, depth = project(image, record.boxes.values[nearest, None, :3].astype(np.float64))
            np.testing.assert_allclose(found[0], devkit, atol=0.5)
            assert depth[0] == pytest.approx(box.center[2], abs=1e-3)
            seen += 1
    assert seen > 30

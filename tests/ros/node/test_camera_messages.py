"""Image messages and CameraInfo against pictures and projections made by hand."""

from array import array

import cv2
import cv_bridge
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vexkd_ros.inputs.camera_views import image_intrinsics
from vexkd_ros.inputs.errors import ImageError
from vexkd_ros.inputs.images import read_compressed, read_image, stored_image

RED, GREEN, BLUE, GREY = (200, 10, 20), (30, 180, 40), (50, 60, 220), (90, 90, 90)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(40, 60, 3) RGB of four flat quarters: survives Bayer patterns and JPEG but for its edges."""
    rgb = np.empty((40, 60, 3), np.uint8)
    rgb[:20, :30], rgb[:20, 30:], rgb[20:, :30], rgb[20:, 30:] = RED, GREEN, BLUE, GREY
    return rgb


def message_of(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    return Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=padded.shape[1],
                 is_bigendian=big_endian, data=array("B", padded.tobytes()))


def bayer(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor with that colour filter sees: of each pixel one channel."""
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(colour)]
    return mosaic


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize(("encoding", "channels"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]),
                                                    ("bgra8", [2, 1, 0, 0])])  # fmt: skip
def test_colours_are_read_in_any_order_and_with_rows_of_any_length(picture, encoding, channels, padding):
    np.testing.assert_array_equal(read_image(message_of(picture[:, :, channels], encoding, padding)), picture)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "bayer_bggr8",
                                      "bayer_gbrg8"])  # fmt: skip
def test_what_cv_bridge_knows_is_read_as_cv_bridge_does(encoding):
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}.get(encoding, 1)
    noise = np.random.default_rng(1).integers(0, 256, (24, 32, channels), np.uint8)
    message = message_of(noise[:, :, 0] if channels == 1 else noise, encoding)
    np.testing.assert_array_equal(read_image(message), cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8"))


@pytest.mark.parametrize(("encoding", "luma"), [("uyvy", 1), ("yuv422", 1), ("yuyv", 0), ("yuv422_yuy2", 0)])
def test_yuv_is_read_by_the_equations_of_bt_601(encoding, luma):
    """R = 1.164 (Y − 16) + 1.596 (V − 128), B = … + 2.018 (U − 128); two pixels share U and V."""
    y, u, v = 110, 90, 160
    packed = np.empty((4, 6, 2), np.uint8)
    packed[:, :, luma], packed[:, ::2, 1 - luma], packed[:, 1::2, 1 - luma] = y, u, v
    light = 1.164 * (y - 16)
    expected = [light + 1.596 * (v - 128), light - 0.813 * (v - 128) - 0.391 * (u - 128), light + 2.018 * (u - 128)]
    assert np.abs(read_image(message_of(packed, encoding)) - np.array(expected)).max() < 2


def test_grey_images_are_grey_in_three_channels(picture):
    grey = picture[:, :, 0]
    np.testing.assert_array_equal(read_image(message_of(grey, "mono8")), np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits_are_cut_to_eight(picture, big_endian):
    deep = picture[:, :, 1].astype(">u2" if big_endian else "<u2") * 257
    read = read_image(message_of(deep, "mono16", big_endian=big_endian))
    assert np.abs(read[:, :, 0].astype(int) - picture[:, :, 1]).max() <= 1


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_the_colours_back_away_from_edges(picture, pattern):
    read = read_image(message_of(bayer(picture, pattern), f"bayer_{pattern}8", padding=4))
    for rows, columns in ((slice(4, 16), slice(4, 26)), (slice(4, 16), slice(34, 56)), (slice(24, 36), slice(4, 26))):
        assert np.abs(read[rows, columns].astype(int) - picture[rows, columns]).max() <= 2


@pytest.mark.parametrize(("change", "named"), [
    ({"encoding": "32FC1"}, "32FC1"), ({"encoding": "plaid"}, "'plaid' cannot be made RGB"),
    ({"height": 400}, "less data"), ({"step": 10}, "less data"), ({"width": 0}, "no pixels"),
], ids=lambda value: str(value)[:20])  # fmt: skip
def test_an_image_that_cannot_be_read_says_why(picture, change, named):
    message = message_of(picture, "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=named):
        read_image(message)


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()


def test_a_compressed_image_is_read_and_its_size_known_before_it_is_decoded(picture):
    message = CompressedImage(format="jpeg", data=array("B", jpeg(np.kron(picture, np.ones((8, 8, 1), np.uint8)))))
    stored = stored_image(message)
    assert stored.size == (480, 320)
    assert stored.read(4).shape == (80, 120, 3)
    assert np.abs(read_compressed(message)[20:140, 20:220].astype(int) - RED).max() <= 6


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"hello", lambda data: data[: len(data) // 2]],
                         ids=["empty", "no image", "truncated"])
def test_a_damaged_compressed_image_says_so(picture, damage):
    message = CompressedImage(format="jpeg", data=array("B", damage(jpeg(picture))))
    with pytest.raises(ImageError, match=r"corrupt|truncated"):
        stored_image(message).read(1)


def info(**fields: object) -> CameraInfo:
    return CameraInfo(width=1600, height=900, k=[1260.0, 0, 800, 0, 1270, 450, 0, 0, 1], **fields)


@pytest.mark.parametrize(("message", "size", "left_top"), [
    (info(), (1600, 900), (0, 0)),
    (info(), (400, 225), (0, 0)),
    (info(binning_x=2, binning_y=2), (800, 450), (0, 0)),
], ids=["as calibrated", "scaled", "binned"])  # fmt: skip
def test_a_scaled_image_sees_the_same_ray_at_the_scaled_pixel(message, size, left_top):
    whole, scaled = np.array(message.k).reshape(3, 3), image_intrinsics(message, size)
    ray = np.array([0.3, -0.1, 1.0])
    np.testing.assert_allclose((scaled @ ray)[:2], (whole @ ray)[:2] * size[0] / 1600)


def test_a_region_of_interest_moves_the_principal_point():
    message = info()
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 200, 100, 1200, 600
    np.testing.assert_allclose(image_intrinsics(message, (1200, 600))[:2, 2], [600, 350])
    np.testing.assert_allclose(image_intrinsics(message, (600, 300))[:2, 2], [300, 175])


def test_the_projection_of_rectified_images_goes_before_the_raw_matrix():
    rectified = info(p=[1000.0, 0, 810, 0, 0, 1000, 460, 0, 0, 0, 1, 0])
    np.testing.assert_allclose(image_intrinsics(rectified, (1600, 900)), [[1000, 0, 810], [0, 1000, 460], [0, 0, 1]])


def test_a_camera_without_calibration_is_refused():
    with pytest.raises(ImageError, match="calibrate"):
        image_intrinsics(CameraInfo(width=1600, height=900), (1600, 900))

"""Image messages and CameraInfo against pictures and projections made by hand."""

import zlib
from array import array

import cv2
import cv_bridge
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vexkd_model.config.camera import ImageConfig
from vexkd_model.data.images import view_of
from vexkd_ros.inputs.calibration import read_calibration, undistorted_view
from vexkd_ros.inputs.errors import ImageError
from vexkd_ros.inputs.images import SampleDepth, read_compressed, read_image, stored_image

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
    return Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=padded.shape[1],
        is_bigendian=big_endian,
        data=array("B", padded.tobytes()),
    )


def bayer(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor with that colour filter sees: of each pixel one channel."""
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(colour)]
    return mosaic


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0])],
)
def test_colours_are_read_in_any_order_and_with_rows_of_any_length(picture, encoding, channels, padding):
    np.testing.assert_array_equal(read_image(message_of(picture[:, :, channels], encoding, padding)), picture)


@pytest.mark.parametrize(
    "encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8"]
)
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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoding": "32FC1"}, "32FC1"),
        ({"encoding": "plaid"}, "'plaid' cannot be made RGB"),
        ({"height": 400}, "less data"),
        ({"step": 10}, "less data"),
        ({"width": 0}, "no pixels"),
    ],
    ids=lambda value: str(value)[:20],
)
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


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: b"hello", lambda data: data[: len(data) // 2]],
    ids=["empty", "no image", "truncated"],
)
def test_a_damaged_compressed_image_says_so(picture, damage):
    message = CompressedImage(format="jpeg", data=array("B", damage(jpeg(picture))))
    with pytest.raises(ImageError, match=r"corrupt|truncated"):
        stored_image(message).read(1)


def info(**fields: object) -> CameraInfo:
    return CameraInfo(width=1600, height=900, k=[1260.0, 0, 800, 0, 1270, 450, 0, 0, 1], **fields)


@pytest.mark.parametrize(
    ("message", "size", "left_top"),
    [(info(), (1600, 900), (0, 0)), (info(), (400, 225), (0, 0)), (info(binning_x=2, binning_y=2), (800, 450), (0, 0))],
    ids=["as calibrated", "scaled", "binned"],
)
def test_a_scaled_image_sees_the_same_ray_at_the_scaled_pixel(message, size, left_top):
    whole, scaled = np.array(message.k).reshape(3, 3), read_calibration(message, size).intrinsics
    ray = np.array([0.3, -0.1, 1.0])
    np.testing.assert_allclose((scaled @ ray)[:2], (whole @ ray)[:2] * size[0] / 1600)


def test_a_region_of_interest_moves_the_principal_point():
    message = info()
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 200, 100, 1200, 600
    np.testing.assert_allclose(read_calibration(message, (1200, 600)).intrinsics[:2, 2], [600, 350])
    np.testing.assert_allclose(read_calibration(message, (600, 300)).intrinsics[:2, 2], [300, 175])


def test_the_projection_of_rectified_images_goes_before_the_raw_matrix():
    rectified = info(p=[1000.0, 0, 810, 0, 0, 1000, 460, 0, 0, 0, 1, 0])
    intrinsics = read_calibration(rectified, (1600, 900)).intrinsics
    np.testing.assert_allclose(intrinsics, [[1000, 0, 810], [0, 1000, 460], [0, 0, 1]])


def test_a_camera_without_calibration_is_refused():
    with pytest.raises(ImageError, match="calibrate"):
        read_calibration(CameraInfo(width=1600, height=900), (1600, 900))


def test_bytes_after_the_end_of_a_jpeg_are_no_fault_and_a_thumbnails_end_is_not_its_own(picture):
    data = jpeg(picture)
    thumbnail = b"\xff\xe1" + (2 + len(data)).to_bytes(2, "big") + data
    with_thumbnail = data[:2] + thumbnail + data[2:]
    for whole in (data + b"\0" * 7, data + data, with_thumbnail + b"\n"):
        message = CompressedImage(format="jpeg", data=array("B", whole))
        np.testing.assert_array_equal(
            read_compressed(message), read_compressed(CompressedImage(format="jpeg", data=array("B", data)))
        )
    with pytest.raises(ImageError, match="truncated"):
        read_compressed(CompressedImage(format="jpeg", data=array("B", with_thumbnail[: len(thumbnail) + 200])))


@pytest.mark.parametrize(
    ("suffix", "form", "tolerance"),
    [(".jpg", "bayer_rggb8; jpeg compressed ", 12), (".png", "bayer_rggb8; png compressed ", 1)],
)
def test_a_compressed_mosaic_is_given_its_colours(picture, suffix, form, tolerance):
    big = np.kron(picture, np.ones((4, 4, 1), np.uint8))
    data = cv2.imencode(suffix, bayer(big, "rggb"), [cv2.IMWRITE_JPEG_QUALITY, 98])[1]
    read = stored_image(CompressedImage(format=form, data=array("B", data.tobytes()))).read(2)
    for rows, columns, colour in (
        (slice(4, 36), slice(4, 56), RED),
        (slice(4, 36), slice(64, 116), GREEN),
        (slice(44, 76), slice(4, 56), BLUE),
    ):
        assert np.abs(read[rows, columns].mean((0, 1)) - colour).max() <= tolerance


def test_an_image_that_was_a_mosaic_before_it_was_compressed_in_colour_stays_as_it_is(picture):
    plain, once_bayer = (
        CompressedImage(format=form, data=array("B", jpeg(picture)))
        for form in ("jpeg", "bayer_rggb8; jpeg compressed bgr8")
    )
    np.testing.assert_array_equal(read_compressed(once_bayer), read_compressed(plain))


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ("16UC1; compressedDepth png", "compressedDepth, no picture"),
        ("h264", "packet of video, format 'h264'"),
        ("rgb8; hevc", "packet of video"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(form, named):
    with pytest.raises(ImageError, match=named):
        stored_image(CompressedImage(format=form, data=array("B", bytes(100))))


def test_a_picture_larger_than_any_camera_is_refused_before_it_is_decoded():
    data = bytearray(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError, match=r"larger than any camera's; check the driver: 60000×60000|corrupt"):
        stored_image(CompressedImage(format="png", data=array("B", bytes(data))))


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["nv12", "nv21", "i420"])
@pytest.mark.parametrize("declares_all", [False, True], ids=["height of the picture", "height of all planes"])
def test_planar_yuv_is_read_by_the_equations_of_bt_601(encoding, padding, declares_all):
    y, u, v, height, width = 110, 90, 160, 4, 6
    step = width + padding
    luma = np.full((height, step), y, np.uint8)
    if encoding == "i420":
        chroma = np.concatenate([np.full(height * step // 4, value, np.uint8) for value in (u, v)])
    else:
        chroma = np.tile(np.array([u, v] if encoding == "nv12" else [v, u], np.uint8), height * step // 4)
    message = Image(
        height=height * 3 // 2 if declares_all else height,
        width=width,
        encoding=encoding,
        step=step,
        data=array("B", luma.tobytes() + chroma.tobytes()),
    )
    light = 1.164 * (y - 16)
    expected = [light + 1.596 * (v - 128), light - 0.813 * (v - 128) - 0.391 * (u - 128), light + 2.018 * (u - 128)]
    assert stored_image(message).size == (width, height)
    assert np.abs(read_image(message).astype(int) - np.array(expected)).max() < 2


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_fewer_bits_in_sixteen_are_recognised_by_their_maximum(picture, bits):
    grey = picture[:, :, 1].copy()
    grey[0, 0] = 255
    depth = SampleDepth()
    for dark in (1, 8):  # the second image is dark, and still of the same camera
        deep = (grey // dark).astype(np.uint16) << (bits - 8)
        read = read_image(message_of(deep, "mono16"), depth)
        np.testing.assert_array_equal(read[:, :, 0], grey // dark)


WIDE = ImageConfig(width=256, height=96, zoom=1.0, augment={"zoom": (1.0, 1.0), "rotation": 0.0, "flip": False})
DISTORTIONS = {
    "equidistant": [0.108, -0.065, 0.028, -0.041],
    "plumb_bob": [-0.3, 0.1, 0.002, -0.001, 0.0],
    "rational_polynomial": [0.78, -2.98, 7e-4, 5e-5, 1.7, 0.657, -2.81, 1.63],
}
RAW = np.array([[300.0, 0, 320], [0, 300, 120], [0, 0, 1]])


def distorted_info(model: str, **fields: object) -> CameraInfo:
    return CameraInfo(
        width=640, height=240, distortion_model=model, d=DISTORTIONS[model], k=RAW.ravel().tolist(), **fields
    )


def distorted_dots(model: str, rays: np.ndarray) -> np.ndarray:
    """(240, 640, 3) with a white dot where OpenCV's own projection says that each ray (N, 3) meets the sensor."""
    nowhere, coefficients = np.zeros(3), np.array(DISTORTIONS[model])
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    arguments = (nowhere, nowhere, RAW, coefficients)
    pixels = project(rays.reshape(-1, 1, 3), *arguments)[0].reshape(-1, 2)
    dots = np.zeros((240, 640, 3), np.uint8)
    for x, y in pixels:
        cv2.circle(dots, (round(x * 16), round(y * 16)), 5 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    return dots


@pytest.mark.parametrize("p", [[], RAW], ids=["no P", "P is K"])
@pytest.mark.parametrize("model", DISTORTIONS)
def test_a_distorted_image_is_seen_as_the_pinhole_that_the_student_is_told(model, p):
    """Each dot is where the view's own intrinsics say that its ray is, to half a pixel of the view."""
    fields = {"p": np.column_stack([p, np.zeros(3)]).ravel().tolist()} if len(p) else {}
    for degrees in (-35, -20, 0, 12, 35):
        ray = np.array([[np.tan(np.radians(degrees)), 0.1, 1.0]])
        stored = stored_image(message_of(distorted_dots(model, ray), "rgb8"))
        calibration = read_calibration(distorted_info(model, **fields), stored.size)
        view, image_from_stored = undistorted_view(stored, calibration, WIDE)
        u, v, w = image_from_stored @ calibration.intrinsics @ ray[0]
        rows, columns = np.nonzero(view[:, :, 0] > 100)
        assert len(rows)
        scale = image_from_stored[0, 0]  # the dot's circle is round in pixels that begin at their middle
        assert abs(columns.mean() + 0.5 - u / w - scale / 2) < 0.7
        assert abs(rows.mean() + 0.5 - v / w - scale / 2) < 0.7


def test_an_image_that_its_calibration_calls_rectified_is_not_undistorted():
    rectified = [280.0, 0, 310, 0, 0, 280, 118, 0, 0, 0, 1, 0]
    calibration = read_calibration(distorted_info("plumb_bob", p=rectified), (640, 240))
    assert not len(calibration.distortion)
    np.testing.assert_allclose(calibration.intrinsics[0], rectified[:3])


def test_without_distortion_the_way_of_the_view_is_that_of_offline_data(picture):
    stored = stored_image(message_of(picture, "rgb8"))
    calibration = read_calibration(CameraInfo(width=60, height=40, k=RAW.ravel().tolist(), d=[0.0] * 5), stored.size)
    for found, expected in zip(undistorted_view(stored, calibration, WIDE), view_of(stored, WIDE), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_distortion_that_nobody_knows_is_refused_by_name():
    message = CameraInfo(width=640, height=240, distortion_model="omni", d=[0.1] * 4, k=RAW.ravel().tolist())
    with pytest.raises(ImageError, match="distortion of the model 'omni'; publish rectified images"):
        read_calibration(message, (640, 240))

"""Reader of sensor_msgs/Image and CompressedImage to RGB pixels, in ROS's messages or rosbags'."""

import io
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image as Picture

from vexkd_model.data.images import StoredImage, decode, shrunk
from vexkd_ros.inputs.errors import ImageError

# Of sensor_msgs/image_encodings.hpp: channels, type, OpenCV's way to RGB. Not by cv_bridge, whose edition on PyPI does
# not know all of them, nor rows that are longer than their pixels.
ENCODINGS: dict[str, tuple[int, str, int | None]] = {
    "rgb8": (3, "u1", None), "bgr8": (3, "u1", cv2.COLOR_BGR2RGB), "8UC3": (3, "u1", cv2.COLOR_BGR2RGB),
    "rgba8": (4, "u1", cv2.COLOR_RGBA2RGB), "bgra8": (4, "u1", cv2.COLOR_BGRA2RGB),
    "rgb16": (3, "u2", None), "bgr16": (3, "u2", cv2.COLOR_BGR2RGB),
    "mono8": (1, "u1", cv2.COLOR_GRAY2RGB), "8UC1": (1, "u1", cv2.COLOR_GRAY2RGB),
    "mono16": (1, "u2", cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (1, "u1", cv2.COLOR_BayerRGGB2RGB), "bayer_bggr8": (1, "u1", cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, "u1", cv2.COLOR_BayerGBRG2RGB), "bayer_grbg8": (1, "u1", cv2.COLOR_BayerGRBG2RGB),
    "bayer_rggb16": (1, "u2", cv2.COLOR_BayerRGGB2RGB), "bayer_bggr16": (1, "u2", cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg16": (1, "u2", cv2.COLOR_BayerGBRG2RGB), "bayer_grbg16": (1, "u2", cv2.COLOR_BayerGRBG2RGB),
    "uyvy": (2, "u1", cv2.COLOR_YUV2RGB_UYVY), "yuv422": (2, "u1", cv2.COLOR_YUV2RGB_UYVY),
    "yuyv": (2, "u1", cv2.COLOR_YUV2RGB_YUY2), "yuv422_yuy2": (2, "u1", cv2.COLOR_YUV2RGB_YUY2),
}  # fmt: skip


def stored_image(message: Any) -> StoredImage:
    """Wrap an image of either type, to be decoded only as large as a student reads it.

    Raises ImageError here, or from `read`.
    """
    if hasattr(message, "format"):
        return StoredImage(_compressed_size(message), partial(read_compressed, message))
    size = (int(message.width), int(message.height))
    return StoredImage(size, lambda reduction: shrunk(read_image(message), reduction))


def read_compressed(message: Any, reduction: int = 1) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage to uint8 (H / reduction, W / reduction, 3) RGB. Raises ImageError."""
    try:
        return decode(np.frombuffer(message.data, np.uint8), reduction)
    except ValueError as error:
        raise ImageError(f"the image is {error}; check the driver and the network") from None


def read_image(message: Any) -> np.ndarray:
    """Read a sensor_msgs/Image in an encoding of ENCODINGS, with rows of any length, to uint8 (H, W, 3) RGB.

    Of 16 bits the upper 8 are kept. Raises ImageError.
    """
    if message.encoding not in ENCODINGS:
        raise ImageError(f"the image's encoding {message.encoding!r} cannot be made RGB; configure the driver to rgb8")
    channels, dtype, conversion = ENCODINGS[message.encoding]
    pixels = _rows(message, channels, np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<"))
    if pixels.dtype.itemsize == 2:
        pixels = (pixels >> 8).astype(np.uint8)
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)


def _compressed_size(message: Any) -> tuple[int, int]:
    """Read (width, height) from the header of the file alone."""
    try:
        with Picture.open(io.BytesIO(message.data)) as picture:
            return picture.size
    except (OSError, ValueError, Picture.DecompressionBombError):
        raise ImageError("the image is corrupt; check the driver and the network",
                         f"format {message.format!r}, {len(message.data)} bytes") from None


def _rows(message: Any, channels: int, dtype: np.dtype) -> np.ndarray:
    """Return the pixels, (H, W) or (H, W, channels), without what fills up the rows."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * channels * dtype.itemsize
    if height * width == 0:
        raise ImageError("the image has no pixels; check the driver")
    if step < row or len(message.data) < (height - 1) * step + row:
        raise ImageError("the image has less data than it declares; mend the driver",
                         f"{width}×{height} {message.encoding}, step {step}, {len(message.data)} bytes")
    shape, strides = (height, width, channels), (step, channels * dtype.itemsize, dtype.itemsize)
    pixels = np.ascontiguousarray(np.ndarray(shape, dtype, message.data, strides=strides))
    return pixels[:, :, 0] if channels == 1 else pixels

"""sensor_msgs/Image and CompressedImage → RGB pixels, whatever the driver made of them. rosbags' messages will do."""

import io
import re
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image as Picture

from vexkd_model.data.images import StoredImage, decode, shrunk

BYTES_OF = {"8": 1, "16": 2, "32": 4, "64": 8}


class ImageError(ValueError):
    """An image that cannot be read, and why, in one line. `kind` is the same text without numbers that vary."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


def stored_image(message: Any) -> StoredImage:
    """An image of either type that is decoded only as large as a student reads it.

    Raises ImageError here, or from `read`.
    """
    if hasattr(message, "format"):
        return StoredImage(_compressed_size(message), partial(read_compressed, message))
    size = (int(message.width), int(message.height))
    return StoredImage(size, lambda reduction: shrunk(read_image(message), reduction))


def read_compressed(message: Any, reduction: int = 1) -> np.ndarray:
    """uint8 (H / reduction, W / reduction, 3) RGB of a sensor_msgs/CompressedImage. Raises ImageError."""
    try:
        return decode(np.frombuffer(message.data, np.uint8), reduction)
    except ValueError as error:
        raise ImageError(f"the image is {error}; check the driver and the network") from None


def read_image(message: Any) -> np.ndarray:
    """uint8 (H, W, 3) RGB of a sensor_msgs/Image in any encoding of colour, grey or a Bayer pattern, with rows of any
    length. Raises ImageError."""
    # Imported here: it needs a ROS, and a bag of compressed images does not.
    from cv_bridge import CvBridge, CvBridgeError

    try:
        return CvBridge().imgmsg_to_cv2(_without_padding(message), "rgb8")
    except (CvBridgeError, RuntimeError, TypeError, ValueError) as error:
        raise ImageError(f"the image's encoding {message.encoding!r} cannot be made RGB; configure the driver to rgb8",
                         " ".join(str(error).split())) from None


def _compressed_size(message: Any) -> tuple[int, int]:
    """(width, height) from the header of the file alone."""
    try:
        with Picture.open(io.BytesIO(message.data)) as picture:
            return picture.size
    except (OSError, ValueError, Picture.DecompressionBombError):
        raise ImageError("the image is corrupt; check the driver and the network",
                         f"format {message.format!r}, {len(message.data)} bytes") from None


def _without_padding(message: Any) -> SimpleNamespace:
    """The same image with rows that follow one another: cv_bridge of some distributions does not look at `step`."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * _pixel_bytes(message.encoding)
    if height * width == 0:
        raise ImageError("the image has no pixels; check the driver")
    if step < row or len(message.data) < (height - 1) * step + row:
        raise ImageError("the image has less data than it declares; mend the driver",
                         f"{width}×{height} {message.encoding}, step {step}, {len(message.data)} bytes")
    data = np.ndarray((height, row), np.uint8, message.data, strides=(step, 1))
    return SimpleNamespace(height=height, width=width, step=row, encoding=message.encoding,
                           is_bigendian=message.is_bigendian, data=np.ascontiguousarray(data).data)


def _pixel_bytes(encoding: str) -> int:
    """Bytes a pixel of an encoding of sensor_msgs/image_encodings.hpp."""
    colour = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4, "mono": 1}
    if match := re.fullmatch(r"(rgba|bgra|rgb|bgr|mono)(8|16)", encoding):
        return colour[match[1]] * BYTES_OF[match[2]]
    if match := re.fullmatch(r"bayer_(?:rggb|bggr|gbrg|grbg)(8|16)", encoding):
        return BYTES_OF[match[1]]
    if match := re.fullmatch(r"(8|16|32|64)[USF]C([1-4])?", encoding):
        return BYTES_OF[match[1]] * int(match[2] or 1)
    if encoding in ("uyvy", "yuyv", "yuv422", "yuv422_yuy2"):
        return 2
    raise ImageError(f"the image's encoding {encoding!r} is not known; configure the driver to rgb8")

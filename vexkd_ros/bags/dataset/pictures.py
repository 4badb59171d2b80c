"""Image files of the dataset, from Image and CompressedImage."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vexkd_model.data.images import JPEG_START, check_whole
from vexkd_ros.inputs.calibration import read_calibration, undistorted
from vexkd_ros.inputs.errors import ImageError
from vexkd_ros.inputs.images import ENCODINGS, SampleDepth, stored_image


@dataclass(frozen=True)
class PictureFormat:
    """Format of images that cannot be copied. suffix: jpg or png. quality: of a JPEG, 1 … 100."""

    suffix: str = "jpg"
    quality: int = 95


@dataclass(frozen=True)
class Picture:
    """Image file. size: (width, height) [px]. intrinsics: float64 (3, 3) of the pinhole that took it."""

    content: bytes
    suffix: str
    size: tuple[int, int]
    intrinsics: np.ndarray


def picture_file(message: Any, info: Any, depth: SampleDepth, chosen: PictureFormat) -> Picture:
    """Make the file of an image: a JPEG without distortion byte for byte, any other one rectified and encoded.

    info: the camera's CameraInfo. Raises ImageError.
    """
    stored = stored_image(message, depth)
    calibration = read_calibration(info, stored.size)
    if not len(calibration.distortion) and _is_plain_jpeg(message):
        content = np.frombuffer(message.data, np.uint8)
        try:
            check_whole(content)
        except ValueError:
            raise ImageError("the image is truncated; check the driver and the network") from None
        return Picture(content.tobytes(), "jpg", stored.size, calibration.intrinsics)
    pixels = cv2.cvtColor(undistorted(stored, calibration), cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, chosen.quality] if chosen.suffix == "jpg" else []
    content = cv2.imencode(f".{chosen.suffix}", pixels, options)[1].tobytes()
    return Picture(content, chosen.suffix, stored.size, calibration.intrinsics)


def _is_plain_jpeg(message: Any) -> bool:
    """Tell whether the message is a file that every reader shows as it is meant: no mosaic, no 16 bits."""
    if not hasattr(message, "format") or bytes(message.data[:2]) != JPEG_START:
        return False
    encoding = message.format.split(";")[0].strip()
    return encoding not in ENCODINGS or not (encoding.startswith("bayer_") or encoding.endswith("16"))

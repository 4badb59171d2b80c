"""Reader of sensor_msgs/Image and CompressedImage to RGB pixels, in ROS's messages or rosbags'."""

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image as Picture

from vexkd_model.data.images import StoredImage, check_whole, decode, shrunk
from vexkd_ros.inputs.errors import ImageError

# Of sensor_msgs/image_encodings.hpp: channels, type, OpenCV's way to RGB. Not by cv_bridge, whose edition on PyPI does
# not know all of them, nor rows that are longer than their pixels.
ENCODINGS: dict[str, tuple[int, str, int | None]] = {
    "rgb8": (3, "u1", None),
    "bgr8": (3, "u1", cv2.COLOR_BGR2RGB),
    "8UC3": (3, "u1", cv2.COLOR_BGR2RGB),
    "rgba8": (4, "u1", cv2.COLOR_RGBA2RGB),
    "bgra8": (4, "u1", cv2.COLOR_BGRA2RGB),
    "rgb16": (3, "u2", None),
    "bgr16": (3, "u2", cv2.COLOR_BGR2RGB),
    "mono8": (1, "u1", cv2.COLOR_GRAY2RGB),
    "8UC1": (1, "u1", cv2.COLOR_GRAY2RGB),
    "mono16": (1, "u2", cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (1, "u1", cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (1, "u1", cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, "u1", cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (1, "u1", cv2.COLOR_BayerGRBG2RGB),
    "bayer_rggb16": (1, "u2", cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr16": (1, "u2", cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg16": (1, "u2", cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg16": (1, "u2", cv2.COLOR_BayerGRBG2RGB),
    "uyvy": (2, "u1", cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": (2, "u1", cv2.COLOR_YUV2RGB_UYVY),
    "yuyv": (2, "u1", cv2.COLOR_YUV2RGB_YUY2),
    "yuv422_yuy2": (2, "u1", cv2.COLOR_YUV2RGB_YUY2),
}
# A plane of luma, and below it half as many rows of both chromas.
PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21, "i420": cv2.COLOR_YUV2RGB_I420}
VIDEO = ("h264", "h265", "hevc", "av1", "vp8", "vp9", "mpeg", "ffmpeg", "theora")
LARGEST = 2**26  # pixels of a compressed image; a few bytes may declare more than there is memory for


class SampleDepth:
    """Number of bits of a camera's samples of 16 bits: many cameras send 10 or 12, and the message does not tell.

    By the greatest sample so far, so that a dark image does not count as one of fewer bits.
    """

    def __init__(self) -> None:
        self._greatest = 0

    def to_eight(self, samples: np.ndarray) -> np.ndarray:
        """Keep the upper 8 of the samples' bits: uint16 → uint8."""
        self._greatest = max(self._greatest, int(samples.max(initial=0)))
        bits = 10 if self._greatest < 2**10 else 12 if self._greatest < 2**12 else 16
        return (samples >> (bits - 8)).astype(np.uint8)


def stored_image(message: Any, depth: SampleDepth | None = None) -> StoredImage:
    """Wrap an image of either type, to be decoded only as large as a student reads it.

    depth: of the camera that took it. Raises ImageError here, or from `read`.
    """
    depth = depth or SampleDepth()
    if hasattr(message, "format"):
        return StoredImage(_compressed_size(message), lambda reduction: read_compressed(message, reduction, depth))
    width, height = int(message.width), int(message.height)
    if message.encoding in PLANAR:
        height = _planar_height(message)
    if width * height == 0:
        raise ImageError("the image has no pixels; check the driver")
    return StoredImage((width, height), lambda reduction: shrunk(read_image(message, depth), reduction))


def read_compressed(message: Any, reduction: int = 1, depth: SampleDepth | None = None) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage to uint8 (H / reduction, W / reduction, 3) RGB. Raises ImageError.

    Its format is that of image_transport: "ENCODING; jpeg compressed TARGET", or the file's type alone.
    """
    content, encoding = np.frombuffer(message.data, np.uint8), message.format.split(";")[0].strip()
    try:
        if encoding in ENCODINGS and (encoding.startswith("bayer_") or encoding.endswith("16")):
            check_whole(content)
            samples = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
            if samples is not None and (samples.ndim == 2 or samples.dtype == np.uint16):
                return shrunk(_colours(samples, encoding, depth or SampleDepth()), reduction)
        return decode(content, reduction)
    except (ValueError, cv2.error) as error:
        raise ImageError(
            "the image is truncated; check the driver and the network"
            if "truncated" in str(error)
            else "the image is corrupt; check the driver and the network"
        ) from None


def _colours(samples: np.ndarray, encoding: str, depth: SampleDepth) -> np.ndarray:
    """Convert a decoded file (H, W), a mosaic or grey, or (H, W, 3) BGR to uint8 (H, W, 3) RGB."""
    if samples.dtype == np.uint16:
        samples = depth.to_eight(samples)
    if samples.ndim == 3:
        return cv2.cvtColor(samples, cv2.COLOR_BGR2RGB)
    mosaic = ENCODINGS[encoding][2] if encoding.startswith("bayer_") else None
    return cv2.cvtColor(samples, cv2.COLOR_GRAY2RGB if mosaic is None else mosaic)


def read_image(message: Any, depth: SampleDepth | None = None) -> np.ndarray:
    """Read a sensor_msgs/Image of ENCODINGS or PLANAR, with rows of any length, to uint8 (H, W, 3) RGB.

    Of 16 bits, or the 10 or 12 that are used of them, the upper 8 are kept. Raises ImageError.
    """
    if message.encoding in PLANAR:
        return cv2.cvtColor(_planes(message), PLANAR[message.encoding])
    if message.encoding not in ENCODINGS:
        raise ImageError(f"the image's encoding {message.encoding!r} cannot be made RGB; configure the driver to rgb8")
    channels, dtype, conversion = ENCODINGS[message.encoding]
    pixels = _rows(message, channels, np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<"))
    if pixels.dtype.itemsize == 2:
        pixels = (depth or SampleDepth()).to_eight(pixels)
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)


def _compressed_size(message: Any) -> tuple[int, int]:
    """Read (width, height) from the header of the file alone."""
    kind = message.format.lower()
    if "compresseddepth" in kind:
        raise ImageError("the image is a compressedDepth, no picture; remap to the camera's colour images")
    if any(name in kind for name in VIDEO):
        raise ImageError(
            f"the image is a packet of video, format {message.format!r}; decode it first: image_transport republish"
        )
    try:
        with Picture.open(io.BytesIO(message.data)) as picture:
            width, height = picture.size
    except Exception:  # Pillow lets a dozen kinds escape where a file is damaged
        raise ImageError(
            "the image is corrupt; check the driver and the network",
            f"format {message.format!r}, {len(message.data)} bytes",
        ) from None
    if not 0 < width * height <= LARGEST:
        raise ImageError("the image is larger than any camera's; check the driver", f"{width}×{height}")
    return width, height


def _planar_height(message: Any) -> int:
    """Return the picture's height; some drivers declare that of all planes together."""
    height, step = int(message.height), int(message.step)
    return height if len(message.data) >= height * step * 3 // 2 else height * 2 // 3


def _planes(message: Any) -> np.ndarray:
    """Return uint8 (H · 3 / 2, W): luma and chroma without what fills up the rows."""
    height, width, step = _planar_height(message), int(message.width), int(message.step)
    if width * height == 0:
        raise ImageError("the image has no pixels; check the driver")
    if width % 2 or height % 2 or step < width or len(message.data) < height * step * 3 // 2:
        raise ImageError(
            "the image has less data than it declares; mend the driver",
            f"{width}×{height} {message.encoding}, step {step}, {len(message.data)} bytes",
        )
    planes = np.frombuffer(message.data, np.uint8, height * step * 3 // 2)
    if message.encoding != "i420" or step == width:
        return np.ascontiguousarray(planes.reshape(-1, step)[:, :width])
    luma = planes[: height * step].reshape(height, step)[:, :width]
    chroma = planes[height * step :].reshape(height, -1)[:, : width // 2]  # rows of half the step, U above V
    return np.concatenate([luma.reshape(-1), chroma.reshape(-1)]).reshape(-1, width)


def _rows(message: Any, channels: int, dtype: np.dtype) -> np.ndarray:
    """Return the pixels, (H, W) or (H, W, channels), without what fills up the rows."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * channels * dtype.itemsize
    if height * width == 0:
        raise ImageError("the image has no pixels; check the driver")
    if step < row or len(message.data) < (height - 1) * step + row:
        raise ImageError(
            "the image has less data than it declares; mend the driver",
            f"{width}×{height} {message.encoding}, step {step}, {len(message.data)} bytes",
        )
    shape, strides = (height, width, channels), (step, channels * dtype.itemsize, dtype.itemsize)
    pixels = np.ascontiguousarray(np.ndarray(shape, dtype, message.data, strides=strides))
    return pixels[:, :, 0] if channels == 1 else pixels

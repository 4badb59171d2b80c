"""Camera images at a model's input size: decoded, and resampled once by one affine map.

Decoding a JPEG at half, a quarter or an eighth of its size costs less than decoding it whole (two thirds, at half
size), and is the low-pass filter that shrinking needs anyway; the affine map then never shrinks by two or more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from vexkd_model.config.camera import ImageConfig
from vexkd_model.data.image_augment import ImageAugmentation

REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
HALF_PIXEL = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the first pixel's middle


@dataclass(frozen=True)
class StoredImage:
    """Image in a file or a message before resampling; it is read once the reduction is known.

    size: (width, height) [px]. read: reduction, 1, 2, 4 or 8 → uint8 (height / reduction, width / reduction, 3) RGB.
    """

    size: tuple[int, int]
    read: Callable[[int], np.ndarray]


def view_of(
    stored: StoredImage, images: ImageConfig, augmentation: ImageAugmentation | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Crop an image to uint8 (images.height, images.width, 3); also return image_from_stored, float64 (3, 3)."""
    size = (images.width, images.height)
    augmentation = augmentation or ImageAugmentation(images.zoom)
    image_from_stored = augmentation.image_from_stored(stored.size, size)
    reduction = reduction_of(image_from_stored)
    return warp(stored.read(reduction), image_from_stored, size, reduction), image_from_stored


def shrunk(pixels: np.ndarray, reduction: int) -> np.ndarray:
    """Shrink uint8 (H, W, 3) by area, as a reduced decoding does, to (H // reduction, W // reduction, 3)."""
    if reduction == 1:
        return pixels
    rows, columns = (edge // reduction for edge in pixels.shape[:2])
    whole = pixels[: rows * reduction, : columns * reduction]
    return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)


def reduction_of(image_from_stored: np.ndarray) -> int:
    """Largest reduction, 1, 2, 4 or 8, of an image that the affine map (3, 3) need not enlarge again."""
    scale = np.sqrt(abs(np.linalg.det(image_from_stored[:2, :2])))
    return max(reduction for reduction in REDUCED if reduction * scale <= 1 + 1e-6 or reduction == 1)


def warp(pixels: np.ndarray, image_from_stored: np.ndarray, size: tuple[int, int], reduction: int = 1) -> np.ndarray:
    """Resample uint8 (h, w, 3), the stored image shrunk by `reduction`, to size (width, height); black outside it."""
    shrunk = np.diag([reduction, reduction, 1.0])
    opencv_from_opencv = np.linalg.inv(HALF_PIXEL) @ image_from_stored @ shrunk @ HALF_PIXEL
    return cv2.warpAffine(pixels, opencv_from_opencv[:2], size, flags=cv2.INTER_LINEAR)


def check_whole(content: np.ndarray) -> None:
    """Raise ValueError, "truncated", for a JPEG without an end: libjpeg fills what it lacks with grey and only warns.

    Bytes after the end are no fault. A thumbnail among the segments before the scan has an end of its own.
    """
    data = content.tobytes()
    if data[:2] != JPEG_START:
        return
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda" and at < len(data):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if data.find(JPEG_END, at) < 0:
        raise ValueError("truncated")


def decode(content: np.ndarray, reduction: int = 1) -> np.ndarray:
    """Decode the bytes uint8 (N,) of an image file to uint8 (h, w, 3) RGB, shrunk by `reduction`, 1, 2, 4 or 8.

    As stored, whatever an EXIF orientation says. ValueError, "truncated" or "corrupt", where it cannot be decoded.
    """
    check_whole(content)
    pixels = cv2.imdecode(content, REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION) if len(content) else None
    if pixels is None:
        raise ValueError("corrupt")
    return pixels if reduction == 1 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)

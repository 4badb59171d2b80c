"""Calibration of a camera: intrinsics of the image that a student reads, and the map that undistorts it.

A student knows pinhole cameras. Where a CameraInfo has distortion and does not say that the image was rectified, the
image is undistorted: one remap replaces the affine resampling, at the same cost.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vexkd_model.config.camera import ImageConfig
from vexkd_model.data.image_augment import ImageAugmentation
from vexkd_model.data.images import StoredImage, reduction_of, view_of
from vexkd_ros.inputs.errors import ImageError

MODELS = ("plumb_bob", "rational_polynomial", "equidistant")


@dataclass(frozen=True)
class Calibration:
    """Calibration of images of one size, which may be binned, a region of the sensor or scaled.

    intrinsics: float64 (3, 3) of the pinhole image that is read. raw_intrinsics: of the image as it is stored.
    distortion: coefficients in OpenCV's order, of `model`; empty where the image needs no undistortion.
    """

    intrinsics: np.ndarray
    raw_intrinsics: np.ndarray
    model: str
    distortion: np.ndarray


def read_calibration(info: Any, size: tuple[int, int]) -> Calibration:
    """Read a sensor_msgs/CameraInfo for an image of `size` (width, height). Raises ImageError where it is not usable.

    Where P has a focal length and differs from K, the image was rectified: P is its matrix and nothing is distorted.
    Drivers of raw images leave P empty or copy K to it.
    """
    raw, projection = np.array(info.k, np.float64).reshape(3, 3), np.array(info.p, np.float64).reshape(3, 4)[:, :3]
    distortion = np.array(info.d, np.float64)
    has_projection = bool(projection[0, 0] > 0)
    rectified = has_projection and not np.allclose(projection, raw, rtol=1e-6)
    matrix = projection if has_projection else raw
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise ImageError("its CameraInfo has no focal length; calibrate the camera")
    image_from_calibrated = _image_from_calibrated(info, size)
    if rectified or not distortion.any():
        intrinsics = image_from_calibrated @ matrix
        return Calibration(intrinsics, intrinsics, "", np.empty(0))
    if info.distortion_model not in MODELS or not np.isfinite(distortion).all():
        raise ImageError(
            f"its CameraInfo has distortion of the model {info.distortion_model!r}; publish rectified "
            f"images (image_proc), or calibrate it as {', '.join(MODELS)}"
        )
    if len(distortion) < 4:
        raise ImageError(f"its CameraInfo has {len(distortion)} coefficients of distortion, fewer than 4; calibrate it")
    raw = image_from_calibrated @ raw
    return Calibration(raw, raw, info.distortion_model, distortion)


def undistorted_view(
    stored: StoredImage, calibration: Calibration, images: ImageConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Crop an image as `view_of` does, undistorted; also return image_from_stored, float64 (3, 3)."""
    if not len(calibration.distortion):
        return view_of(stored, images)
    size = (images.width, images.height)
    image_from_stored = ImageAugmentation(images.zoom).image_from_stored(stored.size, size)
    reduction = reduction_of(image_from_stored)
    maps = _MAPS(calibration, image_from_stored, size, reduction)
    return cv2.remap(stored.read(reduction), *maps, cv2.INTER_LINEAR), image_from_stored


def undistorted(stored: StoredImage, calibration: Calibration) -> np.ndarray:
    """Read the whole image, uint8 (H, W, 3) RGB, undistorted: a pinhole's of `calibration.intrinsics`."""
    pixels = stored.read(1)
    if not len(calibration.distortion):
        return pixels
    return cv2.remap(pixels, *_MAPS(calibration, np.eye(3), stored.size, 1), cv2.INTER_LINEAR)


class _Maps:
    """Cache of the maps for cv2.remap, which cost more than a remap."""

    def __init__(self) -> None:
        self._maps: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(
        self, calibration: Calibration, image_from_stored: np.ndarray, size: tuple[int, int], reduction: int
    ) -> tuple[np.ndarray, np.ndarray]:
        key = b"|".join(
            [
                calibration.raw_intrinsics.tobytes(),
                calibration.distortion.tobytes(),
                calibration.model.encode(),
                image_from_stored.tobytes(),
                repr((size, reduction)).encode(),
            ]
        )
        maps = self._maps.get(key)
        if maps is None:
            if len(self._maps) >= KEPT:
                self._maps.clear()
            maps = self._maps[key] = _undistortion(calibration, image_from_stored, size, reduction)
        return maps


KEPT = 32  # maps: more than a vehicle has cameras
_MAPS = _Maps()


def _undistortion(
    calibration: Calibration, image_from_stored: np.ndarray, size: tuple[int, int], reduction: int
) -> tuple[np.ndarray, np.ndarray]:
    """Make cv2.remap's maps from a view's pixels to those of the stored image, shrunk by `reduction`."""
    columns, rows = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    pixels = np.stack([columns.ravel(), rows.ravel(), np.ones(columns.size)])
    rays = np.linalg.inv(image_from_stored @ calibration.intrinsics) @ pixels
    rays = np.ascontiguousarray((rays[:2] / rays[2]).T)[:, None]
    raw = _project(rays, calibration)
    raw = np.nan_to_num(raw / reduction - 0.5, nan=-1e4, posinf=1e4, neginf=-1e4).clip(-1e4, 3e4).astype(np.float32)
    return cv2.convertMaps(raw[:, 0].reshape(rows.shape), raw[:, 1].reshape(rows.shape), cv2.CV_16SC2)


def _project(rays: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Project rays (N, 1, 2), at z = 1, to pixels (N, 2) of the distorted image."""
    if calibration.model == "equidistant":
        return cv2.fisheye.distortPoints(rays, calibration.raw_intrinsics, calibration.distortion[:4])[:, 0]
    points = np.concatenate([rays[:, 0], np.ones((len(rays), 1))], axis=1)
    coefficients = calibration.distortion[: max(n for n in (4, 5, 8, 12, 14) if n <= len(calibration.distortion))]
    projected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), calibration.raw_intrinsics, coefficients)
    return projected[:, 0]


def _image_from_calibrated(info: Any, size: tuple[int, int]) -> np.ndarray:
    whole = (info.roi.width, info.roi.height) if info.roi.width and info.roi.height else (info.width, info.height)
    if not all(whole):
        raise ImageError("its CameraInfo has no width and height; correct the driver")
    scale = np.array(size) / np.array(whole)
    return np.array(
        [[scale[0], 0, -scale[0] * info.roi.x_offset], [0, scale[1], -scale[1] * info.roi.y_offset], [0, 0, 1]]
    )

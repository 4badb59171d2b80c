"""One camera in a few numbers: its size, its field of view, how bright it is, where it sits and looks."""

from dataclasses import dataclass

import numpy as np

from vexkd_model.config.camera import ImageConfig
from vexkd_model.types import CameraImage

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
SATURATED = 250  # of 255
EVERY = 4  # rows and columns between the pixels that stand for an image


@dataclass(frozen=True)
class CameraFigures:
    """size: (width, height) of the image as it was stored or received [px]. focal: focal length over width. brightness:
    mean luma of what is read of it, 0 … 255. saturated: share of pixels of which every channel is at its end. position:
    of the camera in base_link [m]. direction: unit vector of its view in base_link. roll: by how much the image's rows
    are turned against the horizon [°]."""

    size: tuple[int, int]
    focal: float
    brightness: float
    saturated: float
    position: tuple[float, float, float]
    direction: tuple[float, float, float]
    roll: float


def measure_camera(image: CameraImage, images: ImageConfig) -> CameraFigures:
    """Of what a student reads of an image without augmentation; about 1 ms."""
    width, height = _stored_size(image, images)
    few = image.pixels[EVERY // 2 :: EVERY, EVERY // 2 :: EVERY]
    view = image.base_from_camera[:3, 2]
    return CameraFigures(
        (width, height), float(image.intrinsics[0, 0] / width), float((few @ LUMA).mean()),
        float((few >= SATURATED).all(axis=2).mean()), tuple(image.base_from_camera[:3, 3].tolist()),
        tuple(view.tolist()), _roll(image.base_from_camera[:3, 0], view))


def _stored_size(image: CameraImage, images: ImageConfig) -> tuple[int, int]:
    """(width, height), from how the image was scaled and its top cut off."""
    scale = image.image_from_stored[0, 0]
    return (round(images.zoom * images.width / scale),
            round((images.height - image.image_from_stored[1, 2]) / scale))


def _roll(right: np.ndarray, view: np.ndarray) -> float:
    """From the directions of the image's rows and of the view; 0 for a view straight up or down."""
    level = np.cross(view, [0, 0, 1])
    if np.linalg.norm(level) < 0.1:
        return 0.0
    return float(np.degrees(np.arctan2(-(right @ np.cross(level, view)), right @ level)))

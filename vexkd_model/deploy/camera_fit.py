"""A camera against the one of the training that bears its name.

A student resizes what it receives, so that sizes as such are no mismatch: what its pixels show of the world is.
"""

import math

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.config.camera import ImageConfig
from vexkd_model.deploy.camera_figures import CameraFigures
from vexkd_model.deploy.input_statistics import CameraStatistics
from vexkd_model.deploy.mismatch import Mismatch

# An object's size in pixels is its distance's and the focal length's: a tenth in one looks like a tenth in the other.
# Augmentation zooms, and so showed the student other focal lengths, too.
FOCAL = 1.1
ASPECT = 1.05  # a crop of another part of the view; 4:3 is 1.33 times as high as 16:9
BLUR = 1.5  # beyond the training's own blow-up, letters become smears; a half-size image is 2
# Below half of the darkest training image, or above half way from its brightest to white.
DARK, BRIGHT = 0.5, 0.5
SATURATED = 0.3  # of the pixels: the sun and its reflections on a wet road were 6 % in nuScenes
VIEW_DEG, ROLL_DEG = 15.0, 10.0  # calibrations of one type of vehicle differ by one degree; a wrong cable makes 55
HEIGHT_M = 0.5  # from a car's roof to a truck's is 1 m: the ground is then elsewhere in the image
UPWARDS_DEG = 45.0


def camera_mismatches(seen: CameraFigures, name: str, trained: tuple[CameraStatistics, ...],
                      config: ModelConfig) -> list[Mismatch]:
    """seen: medians over some images. Nothing of a camera that the training did not have."""
    own = next((camera for camera in trained if camera.name == name), None)
    if own is None:
        return []
    images = config.camera.images
    found = [_exposure(seen, own), _field_of_view(seen, own, images), _aspect(seen, own),
             _resolution(seen, own, images), _direction(seen, own, trained) or _roll(seen, own), _height(seen, own)]
    return [Mismatch(name, *one) for one in found if one]


def _exposure(seen: CameraFigures, own: CameraStatistics) -> tuple[str, str] | None:
    saw = f"the student saw {own.brightness.least:.0f} … {own.brightness.most:.0f}"
    if seen.brightness < DARK * own.brightness.least:
        return "dark", f"mean brightness {seen.brightness:.0f} of 255, {saw}: uncover the lens, or raise the exposure"
    if seen.saturated > max(SATURATED, 2 * own.saturated.most):
        return ("overexposed", f"{seen.saturated:.0%} of the pixels are white, the student saw up to "
                f"{own.saturated.most:.0%}: lower the exposure")
    if seen.brightness > own.brightness.most + BRIGHT * (255 - own.brightness.most):
        return "bright", f"mean brightness {seen.brightness:.0f} of 255, {saw}: lower the exposure"
    return None


def _field_of_view(seen: CameraFigures, own: CameraStatistics, images: ImageConfig) -> tuple[str, str] | None:
    zoomed = [zoom / images.zoom for zoom in images.augment.zoom]
    low, high = own.focal.least * min(1, zoomed[0]) / FOCAL, own.focal.most * max(1, zoomed[1]) * FOCAL
    if low <= seen.focal <= high:
        return None
    return ("field of view", f"{_angle(seen.focal):.0f}° wide, the student saw {_angle(own.focal.median):.0f}°: "
            "correct CameraInfo (its k must belong to images of this size), or train a student with this lens")


def _angle(focal: float) -> float:
    return math.degrees(2 * math.atan(0.5 / focal)) if focal > 0 else math.nan


def _aspect(seen: CameraFigures, own: CameraStatistics) -> tuple[str, str] | None:
    (width, height), (own_width, own_height) = seen.size, own.size
    ratio = (height / width) / (own_height / own_width)
    if 1 / ASPECT <= ratio <= ASPECT:
        return None
    return ("aspect", f"{width}×{height} px, the student saw {own_width}×{own_height}: crop to that shape, or train a "
            "student with this camera; only the bottom of what is too high is read")


def _resolution(seen: CameraFigures, own: CameraStatistics, images: ImageConfig) -> tuple[str, str] | None:
    needed = images.zoom * images.width
    if needed / seen.size[0] <= BLUR * max(1.0, needed / own.size[0]):
        return None
    return ("resolution", f"{seen.size[0]} px wide, the student reads {needed:.0f} px of images that were "
            f"{own.size[0]}: publish larger images")


def _direction(seen: CameraFigures, own: CameraStatistics,
               trained: tuple[CameraStatistics, ...]) -> tuple[str, str] | None:
    off = _between(seen.direction, own.direction)
    if off <= VIEW_DEG:
        return None
    if _between(seen.direction, (0, 0, 1)) < UPWARDS_DEG or _between(seen.direction, (0, 0, -1)) < UPWARDS_DEG:
        return ("looks up", "looks up or down by its transform, the student saw it look ahead: frame_id must be the "
                "camera's optical frame, z along the view and x to the right")
    nearest = min(trained, key=lambda camera: _between(seen.direction, camera.direction))
    cure = "correct base_link → its optical frame on /tf_static"
    if nearest.name != own.name:
        cure = f"{nearest.name} looked there, exchange their topics, or {cure}"
    return "direction", f"looks {off:.0f}° beside its direction in training: {cure}"


def _between(first: tuple[float, float, float], second: tuple[float, float, float]) -> float:
    """The angle between two unit vectors [°]."""
    return math.degrees(math.acos(float(np.clip(np.dot(first, second), -1, 1))))


def _roll(seen: CameraFigures, own: CameraStatistics) -> tuple[str, str] | None:
    off = (seen.roll - own.roll.median + 180) % 360 - 180
    if abs(off) <= ROLL_DEG:
        return None
    return ("roll", f"its image is turned by {off:.0f}° about its view against the training: correct base_link → its "
            "optical frame on /tf_static, or turn the images upright")


def _height(seen: CameraFigures, own: CameraStatistics) -> tuple[str, str] | None:
    if abs(seen.position[2] - own.position[2]) <= HEIGHT_M:
        return None
    return ("height", f"mounted {seen.position[2]:.1f} m above base_link, the student saw {own.position[2]:.1f} m: "
            "correct base_link → its optical frame on /tf_static, or train a student with this mounting")

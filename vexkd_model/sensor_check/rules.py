"""Rules that detect a sensor unlike that of the training, for LiDAR and cameras.

The statistics of one place vary with its streets and its weather, so each is compared with the least and most of the
training's frames, with a margin beyond them; real faults change a statistic by more than any street does. A student
resizes the images that it receives, so that their size as such is no mismatch.
"""

import math
from dataclasses import dataclass

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.config.camera import ImageConfig
from vexkd_model.sensor_check.measure import FAR_M
from vexkd_model.sensor_check.statistics import (
    CameraStatistics,
    ImageStatistics,
    LidarStatistics,
    Spread,
    SweepStatistics,
)

# --- LiDAR

LIDAR = "lidar"
# Without augmentation a student learns the ground to a voxel or two; augmentation moves it by a normal distribution,
# of which 1.5 standard deviations hold seven eighths of what it saw. A LiDAR on a roof is 1.5 m or more above ground.
GROUND_M, GROUND_DEVIATIONS = 0.3, 1.5
# Between streets, and between nuScenes and the synthetic world, the number of points varies by less than 1.4; half the
# beams, half a revolution or every second point lost are two.
POINTS = 1.7
# Beams are counted within a tenth; the usual numbers, 16, 32, 64 and 128, are a factor of two apart.
BEAMS = 1.5
# Rain and materials move the 99th percentile of intensity by a factor of 2.3 between training frames. Wrong scales are
# 0 … 1 (255 times less), 0 … 100 (2.5 times less: too near to be detected) and 16 bits (up to 257 times more).
INTENSITY = 4.0
# In every street of the synthetic world 1 % of the points lie beyond 53 m; points farther than the grid are not needed.
RANGE = 0.5
METRES = 10.0  # centimetres are 100, millimetres 1000 and feet 3.3 times as many: too near to be detected
COVERAGE = 0.75  # of the horizon: a roof rack hides a fifth; a LiDAR that looks ahead alone sees half or less
# A street runs ahead and behind. Turned by 90° the trained median would be its inverse; beyond its inverse root the
# street lies nearer to that than to none. One crossing can do that, LENGTHWISE_CLOUDS of them a second apart hardly.
LENGTHWISE_TOLD, LENGTHWISE_CLOUDS = 2.0, 10

# --- Cameras

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


@dataclass(frozen=True)
class Mismatch:
    """One way in which a sensor differs from the one of the training.

    sensor: lidar, or a camera's name. kind: what differs, the same as long as it lasts. text: one line with what is
    seen, what the student saw, and the cure.
    """

    sensor: str
    kind: str
    text: str


def lidar_mismatches(
    seen: SweepStatistics, clouds: int, trained: LidarStatistics, config: ModelConfig
) -> list[Mismatch]:
    """Compare a LiDAR with the one of the training; of differences that have one cause, the cause alone.

    seen: medians over `clouds` sweeps.
    """
    if trained.range_p50 is None:
        return []
    if math.isnan(seen.range_p50):
        return _lidar(
            (
                "no points",
                f"{seen.points:.0f} points beyond the own vehicle, the student saw "
                f"{_span(trained.points)}: the LiDAR is covered, or its driver sends none of its returns",
            )
        )
    if not trained.range_p50.least / METRES < seen.range_p50 < trained.range_p50.most * METRES:
        return _lidar(
            (
                "units",
                f"half of the points are nearer than {seen.range_p50:.3g} m, the student saw "
                f"{_span(trained.range_p50, ' m', 1)}: x, y and z must be in metres",
            )
        )
    return _lidar(
        _ground(seen, trained, config),
        _coverage(seen, trained) or _beams(seen, trained) or _density(seen, trained),
        _reach(seen, trained, config),
        _intensity(seen, trained),
        _turned(seen, clouds, trained),
    )


def _ground(seen: SweepStatistics, trained: LidarStatistics, config: ModelConfig) -> tuple[str, str] | None:
    if trained.ground is None or math.isnan(seen.ground):
        return None
    room = max(GROUND_M, GROUND_DEVIATIONS * config.training.augment.translation)
    if trained.ground.least - room <= seen.ground <= trained.ground.most + room:
        return None
    return (
        "ground height",
        f"the ground lies at z = {seen.ground:.1f} m in base_link, the student saw it at "
        f"{_span(trained.ground, ' m', 1)}: publish where the LiDAR is mounted, base_link → its frame, on "
        "/tf_static; base_link is at the height of the ground",
    )


def _coverage(seen: SweepStatistics, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.coverage is None or seen.coverage >= COVERAGE * trained.coverage.least:
        return None
    return (
        "coverage",
        f"a cloud covers {seen.coverage:.0%} of the horizon, the student saw "
        f"{_percent(trained.coverage)}: let the driver publish whole revolutions, or join the clouds of all LiDARs",
    )


def _beams(seen: SweepStatistics, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.beams is None or math.isnan(seen.beams):
        return None
    if trained.beams.least / BEAMS <= seen.beams <= trained.beams.most * BEAMS:
        return None
    return (
        "beams",
        f"the LiDAR has about {seen.beams:.0f} beams, the student saw {_span(trained.beams)}: train a "
        "student with this LiDAR, or look whether the driver leaves rings out",
    )


def _density(seen: SweepStatistics, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.points.least / POINTS <= seen.points <= trained.points.most * POINTS:
        return None
    return (
        "points",
        f"a cloud has {seen.points:.0f} points beyond the own vehicle, the student saw "
        f"{_span(trained.points)}: give it whole, unfiltered sweeps, one a message, or train a student with this "
        "LiDAR",
    )


def _reach(seen: SweepStatistics, trained: LidarStatistics, config: ModelConfig) -> tuple[str, str] | None:
    if trained.range_p99 is None:
        return None
    needed = RANGE * min(trained.range_p99.least, config.grid.extent)
    if seen.range_p99 >= needed:
        return None
    return (
        "range",
        f"all but 1 % of the points are nearer than {seen.range_p99:.0f} m, the student saw "
        f"{_span(trained.range_p99, ' m')}: remove a filter by range, or train a student with this LiDAR",
    )


def _intensity(seen: SweepStatistics, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.intensity_p99 is None or trained.intensity_max is None or trained.intensity_max.most <= 0:
        return None
    saw = (
        f"the student saw 99 % of them up to {_span(trained.intensity_p99)} and some up to "
        f"{_span(trained.intensity_max)}"
    )
    if seen.intensity_max <= 0:
        return "intensity zero", f"every intensity is 0, {saw}: let the driver publish intensity"
    low, high = trained.intensity_p99.least / INTENSITY, trained.intensity_p99.most * INTENSITY
    if low <= seen.intensity_p99 <= high:
        return None
    greatest = 1 if trained.intensity_max.most <= 1 else 255
    times = ", which is 255 times as much" if seen.intensity_max <= 1 < greatest else ""
    return (
        "intensity scale",
        f"99 % of the intensities are up to {seen.intensity_p99:.3g}, {saw}: let the driver "
        f"publish 0 … {greatest}{times}",
    )


def _turned(seen: SweepStatistics, clouds: int, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.lengthwise is None or math.isnan(seen.lengthwise) or clouds < LENGTHWISE_CLOUDS:
        return None
    if trained.lengthwise.median < LENGTHWISE_TOLD or seen.lengthwise > trained.lengthwise.median**-0.5:
        return None
    return (
        "turned",
        f"beyond {FAR_M:.0f} m {1 / seen.lengthwise:.1f} times as many points lie at the sides as ahead "
        f"and behind, the student saw {trained.lengthwise.median:.1f} times as many ahead and behind: x is forward "
        "and y left in base_link; correct the yaw of base_link → the LiDAR's frame, unless this is a wide place",
    )


def _lidar(*differences: tuple[str, str] | None) -> list[Mismatch]:
    """Make mismatches of those pairs of kind and text that are not None."""
    return [Mismatch(LIDAR, *one) for one in differences if one]


def _percent(spread: Spread) -> str:
    return f"{spread.least:.0%}" + (" or more" if spread.least < 1 else "")


def _span(spread: Spread, unit: str = "", digits: int = 0) -> str:
    low, high = f"{spread.least + 0.0:.{digits}f}", f"{spread.most:.{digits}f}"
    return (low if low == high else f"{low} … {high}").replace("-0.0 ", "0.0 ") + unit


def camera_mismatches(
    seen: ImageStatistics, name: str, trained: tuple[CameraStatistics, ...], config: ModelConfig
) -> list[Mismatch]:
    """Compare the camera `name` with the one of the training; nothing for one that the training did not have.

    seen: medians over some images.
    """
    own = next((camera for camera in trained if camera.name == name), None)
    if own is None or config.camera is None:
        return []
    images = config.camera.images
    differences = [
        _exposure(seen, own),
        _field_of_view(seen, own, images),
        _aspect(seen, own),
        _resolution(seen, own, images),
        _direction(seen, own, trained) or _roll(seen, own),
        _height(seen, own),
    ]
    return [Mismatch(name, *one) for one in differences if one]


def _exposure(seen: ImageStatistics, own: CameraStatistics) -> tuple[str, str] | None:
    saw = f"the student saw {own.brightness.least:.0f} … {own.brightness.most:.0f}"
    if seen.brightness < DARK * own.brightness.least:
        return "dark", f"mean brightness {seen.brightness:.0f} of 255, {saw}: uncover the lens, or raise the exposure"
    if seen.saturated > max(SATURATED, 2 * own.saturated.most):
        return (
            "overexposed",
            f"{seen.saturated:.0%} of the pixels are white, the student saw up to "
            f"{own.saturated.most:.0%}: lower the exposure",
        )
    if seen.brightness > own.brightness.most + BRIGHT * (255 - own.brightness.most):
        return "bright", f"mean brightness {seen.brightness:.0f} of 255, {saw}: lower the exposure"
    return None


def _field_of_view(seen: ImageStatistics, own: CameraStatistics, images: ImageConfig) -> tuple[str, str] | None:
    zoomed = [zoom / images.zoom for zoom in images.augment.zoom]
    low, high = own.focal.least * min(1, zoomed[0]) / FOCAL, own.focal.most * max(1, zoomed[1]) * FOCAL
    if low <= seen.focal <= high:
        return None
    return (
        "field of view",
        f"{_angle(seen.focal):.0f}° wide, the student saw {_angle(own.focal.median):.0f}°: "
        "correct CameraInfo (its k must belong to images of this size), or train a student with this lens",
    )


def _angle(focal: float) -> float:
    return math.degrees(2 * math.atan(0.5 / focal)) if focal > 0 else math.nan


def _aspect(seen: ImageStatistics, own: CameraStatistics) -> tuple[str, str] | None:
    (width, height), (own_width, own_height) = seen.size, own.size
    ratio = (height / width) / (own_height / own_width)
    if 1 / ASPECT <= ratio <= ASPECT:
        return None
    return (
        "aspect",
        f"{width}×{height} px, the student saw {own_width}×{own_height}: crop to that shape, or train a "
        "student with this camera; only the bottom of what is too high is read",
    )


def _resolution(seen: ImageStatistics, own: CameraStatistics, images: ImageConfig) -> tuple[str, str] | None:
    needed = images.zoom * images.width
    if needed / seen.size[0] <= BLUR * max(1.0, needed / own.size[0]):
        return None
    return (
        "resolution",
        f"{seen.size[0]} px wide, the student reads {needed:.0f} px of images that were "
        f"{own.size[0]}: publish larger images",
    )


def _direction(
    seen: ImageStatistics, own: CameraStatistics, trained: tuple[CameraStatistics, ...]
) -> tuple[str, str] | None:
    off = _between(seen.direction, own.direction)
    if off <= VIEW_DEG:
        return None
    if _between(seen.direction, (0, 0, 1)) < UPWARDS_DEG or _between(seen.direction, (0, 0, -1)) < UPWARDS_DEG:
        return (
            "looks up",
            "looks up or down by its transform, the student saw it look ahead: frame_id must be the "
            "camera's optical frame, z along the view and x to the right",
        )
    nearest = min(trained, key=lambda camera: _between(seen.direction, camera.direction))
    cure = "correct base_link → its optical frame on /tf_static"
    if nearest.name != own.name:
        cure = f"{nearest.name} looked there, exchange their topics, or {cure}"
    return "direction", f"looks {off:.0f}° beside its direction in training: {cure}"


def _between(first: tuple[float, float, float], second: tuple[float, float, float]) -> float:
    """Angle between two unit vectors [°]."""
    return math.degrees(math.acos(float(np.clip(np.dot(first, second), -1, 1))))


def _roll(seen: ImageStatistics, own: CameraStatistics) -> tuple[str, str] | None:
    off = (seen.roll - own.roll.median + 180) % 360 - 180
    if abs(off) <= ROLL_DEG:
        return None
    return (
        "roll",
        f"its image is turned by {off:.0f}° about its view against the training: correct base_link → its "
        "optical frame on /tf_static, or turn the images upright",
    )


def _height(seen: ImageStatistics, own: CameraStatistics) -> tuple[str, str] | None:
    if abs(seen.position[2] - own.position[2]) <= HEIGHT_M:
        return None
    return (
        "height",
        f"mounted {seen.position[2]:.1f} m above base_link, the student saw {own.position[2]:.1f} m: "
        "correct base_link → its optical frame on /tf_static, or train a student with this mounting",
    )

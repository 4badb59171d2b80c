"""Sensor variety: augment training frames as if other sensors of the same kind had recorded them.

A student that has only seen one sensor takes its peculiarities for the world's: the number of beams, the scale of
intensity, a camera's exposure. Each change is drawn by itself for a sample, with the probability `share`.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from vexkd_model.config.training import SensorVarietyConfig
from vexkd_model.types import CameraImage, Frame

BEAM_RAD = np.deg2rad(1.33)  # between the beams of nuScenes' LiDAR


def varied(
    frame: Frame,
    settings: SensorVarietyConfig,
    lidar_position: np.ndarray,
    rng: np.random.Generator,
    intensity_max: float = 255.0,
) -> Frame:
    """Return the frame with sweeps, beams and points missing, other intensities, range noise and exposure.

    lidar_position: (3,) of the LiDAR in base_link [m]. intensity_max: of the LiDAR. Poses, calibration and all that is
    true stay as they are.
    """
    points = frame.points
    intensity = partial(_other_intensity, greatest=intensity_max)
    for change in (_fewer_sweeps, _fewer_beams, _fewer_points, intensity, _noise):
        # Drawn whether used or not: one setting does not change the numbers of the next.
        used, stream = rng.random() < settings.share, rng.spawn(1)[0]
        if used and len(points):
            points = change(points, settings, lidar_position, stream)
    cameras = tuple(
        _exposed(camera, settings, stream)
        for camera, stream in zip(frame.cameras, rng.spawn(len(frame.cameras)), strict=True)
    )
    return replace(frame, points=points, cameras=cameras)


def _fewer_sweeps(
    points: np.ndarray, settings: SensorVarietyConfig, _: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Keep the newest sweeps, one to all of them, as after a start or without odometry."""
    if not settings.fewer_sweeps:
        return points
    ages = np.unique(points[:, 4])
    return points[points[:, 4] <= ages[rng.integers(len(ages))]]


def _fewer_beams(
    points: np.ndarray, settings: SensorVarietyConfig, lidar_position: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Drop the points of each band of elevation with a probability of up to `dropped_beams`."""
    x, y, z = (points[:, :3] - lidar_position.astype(np.float32)).T
    band = np.floor(np.arctan2(z, np.hypot(x, y)) / BEAM_RAD).astype(np.int64)
    band -= band.min()
    dropped = rng.random(band.max() + 1) < rng.uniform(0, settings.dropped_beams)
    return points[~dropped[band]]


def _fewer_points(
    points: np.ndarray, settings: SensorVarietyConfig, _: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return points[rng.random(len(points)) >= rng.uniform(0, settings.dropped_points)]


def _other_intensity(
    points: np.ndarray, settings: SensorVarietyConfig, _: np.ndarray, rng: np.random.Generator, greatest: float
) -> np.ndarray:
    """Scale intensity by a factor, log-uniform between 1/`intensity` and `intensity`."""
    reach = np.log(settings.intensity)
    scaled = points.copy()
    scaled[:, 3] = np.minimum(points[:, 3] * np.float32(np.exp(rng.uniform(-reach, reach))), greatest)
    return scaled


def _noise(points: np.ndarray, settings: SensorVarietyConfig, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise to positions, of a standard deviation up to `noise`."""
    moved = points.copy()
    moved[:, :3] += rng.uniform(0, settings.noise) * rng.standard_normal((len(points), 3), np.float32)
    return moved


def _exposed(camera: CameraImage, settings: SensorVarietyConfig, rng: np.random.Generator) -> CameraImage:
    """Scale an image's brightness by a factor between 1/`exposure` and `exposure`."""
    used, reach = rng.random() < settings.share, np.log(settings.exposure)
    if not used or not reach:
        return camera
    table = np.minimum(np.arange(256) * np.exp(rng.uniform(-reach, reach)), 255).astype(np.uint8)
    return replace(camera, pixels=table[camera.pixels])

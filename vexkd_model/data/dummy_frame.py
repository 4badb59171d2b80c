"""Dummy input: a frame of plausible size without a dataset, for `vexkd describe` and benchmarks."""

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.types import CameraImage, Frame, PastFrame

LIDAR_HEIGHT_M, CAMERA_HEIGHT_M, WALL_M = 1.84, 1.5, 40.0
CAMERA_YAWS = {
    "CAM_FRONT": 0,
    "CAM_FRONT_LEFT": 55,
    "CAM_FRONT_RIGHT": -55,
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
}  # degrees to the left


def dummy_frame(config: ModelConfig) -> Frame:
    """Make a frame of flat ground inside a square of walls, as a 32-beam LiDAR and six cameras see it, in base_link."""
    rng = np.random.default_rng(0)
    sweeps = [_sweep(rng, age * 0.05) for age in range(config.sweeps)]
    points = np.concatenate(sweeps) if sweeps else np.empty((0, 5), np.float32)
    cameras = _cameras(config, rng)
    past = [PastFrame(cameras, np.eye(4))] * (config.camera.past_frames if config.camera else 0)
    return Frame(points, 0, cameras=cameras, past=tuple(past))


def _sweep(rng: np.random.Generator, age: float) -> np.ndarray:
    """float32 (34 560, 5): 1080 columns of 32 beams between −30° and +10°, on the ground or a wall."""
    elevation, azimuth = np.meshgrid(np.radians(np.linspace(-30.0, 10.0, 32)), np.linspace(-np.pi, np.pi, 1080))
    to_ground = np.where(elevation < 0, LIDAR_HEIGHT_M / np.tan(-np.minimum(elevation, -1e-3)), np.inf)
    distance = np.minimum(to_ground, WALL_M / np.maximum(np.abs(np.cos(azimuth)), np.abs(np.sin(azimuth))))
    distance = distance + rng.normal(0, 0.02, distance.shape)
    height = LIDAR_HEIGHT_M + distance * np.tan(elevation)
    columns = [distance * np.cos(azimuth), distance * np.sin(azimuth), height, rng.uniform(0, 60, distance.shape)]
    return np.stack([*(column.ravel() for column in columns), np.full(distance.size, age)], axis=1).astype(np.float32)


def _cameras(config: ModelConfig, rng: np.random.Generator) -> tuple[CameraImage, ...]:
    if config.camera is None:
        return ()
    images = config.camera.images
    width, height = images.width, images.height
    intrinsics = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1.0]])
    views = []
    for name in images.cameras:
        cos, sin = np.cos(np.radians(CAMERA_YAWS[name])), np.sin(np.radians(CAMERA_YAWS[name]))
        pose = np.eye(4)
        pose[:3, :3] = np.array([[sin, 0, cos], [-cos, 0, sin], [0, -1, 0]])
        pose[2, 3] = CAMERA_HEIGHT_M
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        views.append(CameraImage(name, pixels, 0, intrinsics, np.eye(3), pose))
    return tuple(views)

"""The rig of sensors in tests: six cameras mounted like those of nuScenes, and a LiDAR on the roof."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from vexkd_model.data.batch import CameraBatch

# Cameras: place in base_link [m], direction of view [rad], delay behind the keyframe's LiDAR stamp [s].
CAMERAS = {
    "CAM_FRONT": ((1.7, 0.0, 1.5), 0.0, -0.035),
    "CAM_FRONT_RIGHT": ((1.5, -0.5, 1.5), -0.96, -0.028),
    "CAM_BACK_RIGHT": ((1.0, -0.5, 1.6), -1.92, -0.02),
    "CAM_BACK": ((0.0, 0.0, 1.6), np.pi, -0.01),
    "CAM_BACK_LEFT": ((1.0, 0.5, 1.6), 1.92, 0.0),
    "CAM_FRONT_LEFT": ((1.5, 0.5, 1.5), 0.96, -0.043),
}
IMAGE_SIZE, FOCAL = (320, 180), 250.0  # width and height [px]
LIDAR_XYZ, LIDAR_YAW = np.array([0.9, 0.1, 1.8]), -np.pi / 2
# Camera axes are x right, y down, z along the view; base_link's are x ahead, y left, z up.
BASE_FROM_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
YAWS = np.radians([55, 0, -55, 110, 180, -110])  # nuScenes' six cameras, in the order of vexkd_model.types.CAMERAS


def street_points(count: int) -> np.ndarray:
    """(count, 4) float32: a street's worth of points around a LiDAR, x, y, z, intensity; the same at every call."""
    random = np.random.default_rng(1)
    xyz = random.uniform([-50, -50, -2], [50, 50, 1], (count, 3))
    return np.column_stack([xyz, random.uniform(0, 255, count)]).astype(np.float32)


def turned(yaw: float) -> np.ndarray:
    """(4, 4): a turn about z."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("Z", yaw).as_matrix()
    return matrix


def mounting(
    yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, at: tuple[float, float, float] = (0.0, 0.0, 1.5)
) -> np.ndarray:
    """base_from_camera (4, 4) of a camera that looks along its yaw."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix() @ BASE_FROM_OPTICAL
    matrix[:3, 3] = at
    return matrix


def lens(focal: float, width: float, height: float) -> np.ndarray:
    """image_from_camera (3, 3) of a pinhole camera whose axis meets the middle of the image."""
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


# A small camera for what is computed by hand: 1.5 m above the rear axle, looking ahead.
AHEAD = mounting()
SMALL_SIZE = (32, 16)  # width, height [px]
SMALL_LENS = lens(20.0, *SMALL_SIZE)


def camera_batch(
    bases: np.ndarray,
    lenses: np.ndarray = SMALL_LENS,
    size: tuple[int, int] = SMALL_SIZE,
    present: list | np.ndarray | None = None,
    image_from_stored: np.ndarray | None = None,
    dtype: torch.dtype = torch.float32,
) -> CameraBatch:
    """Return black images of a batch of frames.

    bases: base_from_camera (B, N, 4, 4). lenses: image_from_camera (B, N, 3, 3), or one for all. size: width, height.
    """
    bases = torch.tensor(np.array(bases), dtype=dtype)
    shape = bases.shape[:2]
    stored = np.eye(3) if image_from_stored is None else image_from_stored
    return CameraBatch(
        images=torch.zeros(*shape, 3, size[1], size[0], dtype=torch.uint8),
        present=torch.ones(shape, dtype=torch.bool) if present is None else torch.tensor(present),
        image_from_camera=torch.tensor(np.array(lenses), dtype=dtype).expand(*shape, 3, 3),
        image_from_stored=torch.tensor(stored, dtype=dtype).expand(*shape, 3, 3),
        base_from_camera=bases,
    )

"""Accumulation of LiDAR sweeps in base_link: the one implementation that training and the node share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import apply, inverse

EGO_HALF_SIZE_M = 1.0  # returns from the own roof: |x| and |y| below this in the sensor frame


@dataclass(frozen=True)
class Sweep:
    """One revolution of a LiDAR.

    points: float32 (N, 4): x, y, z [m] in the sensor frame, intensity 0 … 255.
    base_from_sensor, odom_from_base: float64 (4, 4) at `stamp_ns`; odom is any frame fixed to the world
        (nuScenes' global frame offline), so that ego motion between sweeps is compensated.
    """

    points: np.ndarray
    stamp_ns: int
    base_from_sensor: np.ndarray
    odom_from_base: np.ndarray


def read_lidar_file(path: Path) -> np.ndarray:
    """A nuScenes `.pcd.bin`: float32 (N, 5), x, y, z [m] in the sensor frame, intensity 0 … 255, ring."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: LiDAR file is missing; complete the download") from None
    if len(content) % 20:
        raise UserError(f"{path}: truncated LiDAR file, {len(content)} bytes are not whole points; download it again")
    return np.frombuffer(content, np.float32).reshape(-1, 5)


def accumulate_sweeps(sweeps: Sequence[Sweep]) -> np.ndarray:
    """Points (N, 5) of all sweeps in base_link at the time of the first one, which is the newest.

    The fifth column is dt = newest stamp − sweep stamp in seconds. Older sweeps lose the returns of the ego
    vehicle, which ego-motion compensation would smear (the keyframe keeps them, as in BEVFusion's loading).
    """
    reference = sweeps[0]
    base_from_odom = inverse(reference.odom_from_base)
    parts = []
    for sweep in sweeps:
        points = sweep.points
        if sweep is not reference:
            points = points[(np.abs(points[:, :2]) >= EGO_HALF_SIZE_M).any(axis=1)]
        base_from_sensor = base_from_odom @ sweep.odom_from_base @ sweep.base_from_sensor
        accumulated = np.empty((len(points), 5), dtype=np.float32)
        accumulated[:, :3] = apply(base_from_sensor, points[:, :3])
        accumulated[:, 3] = points[:, 3]
        accumulated[:, 4] = (reference.stamp_ns - sweep.stamp_ns) * 1e-9
        parts.append(accumulated)
    return np.concatenate(parts)

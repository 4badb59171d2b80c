"""Accumulation of LiDAR sweeps in base_link: the one implementation that training and the node share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import inverse

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
    kept = [None if sweep is reference else np.flatnonzero(_beyond_own_roof(sweep.points)) for sweep in sweeps]
    counts = [len(sweep.points) if rows is None else len(rows) for sweep, rows in zip(sweeps, kept, strict=True)]
    accumulated = np.empty((sum(counts), 5), dtype=np.float32)
    whole_sweep = np.empty((max(len(sweep.points) for sweep in sweeps), 5), np.float32)
    start = 0
    for sweep, rows, count in zip(sweeps, kept, counts, strict=True):
        part, age = accumulated[start : start + count], (reference.stamp_ns - sweep.stamp_ns) * 1e-9
        if rows is None:
            _place(sweep, base_from_odom, age, part)
        else:
            placed = whole_sweep[: len(sweep.points)]
            _place(sweep, base_from_odom, age, placed)
            placed.take(rows, axis=0, out=part, mode="clip")  # the mode that writes without a buffer
        start += count
    return accumulated


def _beyond_own_roof(points: np.ndarray) -> np.ndarray:
    """bool (N,)."""
    return (np.abs(points[:, 0]) >= EGO_HALF_SIZE_M) | (np.abs(points[:, 1]) >= EGO_HALF_SIZE_M)


def _place(sweep: Sweep, base_from_odom: np.ndarray, age: float, target: np.ndarray) -> None:
    """Fill float32 (N, 5): one product for all columns is several times faster than writing them one by one."""
    base_from_sensor = base_from_odom @ sweep.odom_from_base @ sweep.base_from_sensor
    columns = np.zeros((4, 5), np.float32)
    columns[:3, :3], columns[3, 3] = base_from_sensor[:3, :3].T, 1
    np.matmul(sweep.points, columns, out=target)
    target += np.array([*base_from_sensor[:3, 3], 0, age], np.float32)

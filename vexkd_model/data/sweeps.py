"""Accumulate LiDAR sweeps in base_link: the one implementation that training and the node share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import inverse

COLUMNS = (5, 4)  # of float32, in nuScenes' LiDAR files and in KITTI's
INTENSITY = 3  # column
HEAD_BYTES = 1 << 16  # thousands of points, which tell the columns apart
INTERVAL_TOLERANCE = 0.75  # a sweep at 20 Hz comes up to a quarter of a turn early and still counts at 10 Hz
EGO_HALF_SIZE_M = 1.0  # returns from the own roof: |x| and |y| below this in the sensor frame


@dataclass(frozen=True)
class Sweep:
    """One revolution of a LiDAR.

    points: float32 (N, 4): x, y, z [m] in the sensor frame, intensity 0 … 255.
    base_from_sensor, odom_from_base: float64 (4, 4) at `stamp_ns`; odom is any frame fixed to the world
        (nuScenes' global frame offline), so that ego motion between sweeps is compensated.
    older: `without_own_roof(points)`, where it is already known.
    """

    points: np.ndarray
    stamp_ns: int
    base_from_sensor: np.ndarray
    odom_from_base: np.ndarray
    older: np.ndarray | None = None


def read_lidar_file(path: Path) -> np.ndarray:
    """Read a LiDAR file of float32 rows: nuScenes' `.pcd.bin` of five columns, or KITTI's `.bin` of four.

    Returns float32 (N, 5): x, y, z [m] in the sensor frame, intensity 0 … 255 with 0 for one that is not a number, and
    ring, 0 where the file has none. UserError for a file that cannot be read or does not end with a whole point.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: LiDAR file cannot be read ({error.strerror}); complete the download") from None
    columns = lidar_columns(content[:HEAD_BYTES], len(content))
    if columns is None:
        raise UserError(f"{path}: truncated LiDAR file, {len(content)} bytes are not whole points; download it again")
    points = np.frombuffer(content, np.float32).reshape(-1, columns)
    unknown = np.isnan(points[:, INTENSITY])
    if columns == COLUMNS[0] and not unknown.any():
        return points
    whole = np.zeros((len(points), COLUMNS[0]), np.float32)
    whole[:, :columns] = points
    whole[unknown, INTENSITY] = 0
    return whole


def lidar_columns(head: bytes, size: int) -> int | None:
    """Number of columns, 5 or 4, of a LiDAR file of `size` bytes; None for one that does not end with a whole point.

    head: its first HEAD_BYTES, or all of it. The size alone does not tell them apart: a cut file of fives may be whole
    fours, and a fifth of all files of fours are whole fives. Read with the wrong number, the column of intensity mixes
    all columns, so that it has negative values.
    """
    possible = [columns for columns in COLUMNS if size % (columns * 4) == 0]
    values = np.frombuffer(head[: len(head) // 4 * 4], np.float32)
    right = [columns for columns in possible if not (_rows(values, columns)[:, INTENSITY] < 0).any()]
    if len(right) == 2 and len(values):
        ring = _rows(values, COLUMNS[0])[:, COLUMNS[0] - 1]
        right = right if np.array_equal(ring, np.rint(ring)) else right[::-1]
    if right:
        return right[0]
    # Intensities that are negative after all.
    return COLUMNS[0] if COLUMNS[0] in possible else None


def _rows(values: np.ndarray, columns: int) -> np.ndarray:
    return values[: len(values) // columns * columns].reshape(-1, columns)


def spaced(stamps_ns: Sequence[int], sweeps: int, interval: float | None) -> list[int]:
    """Indices of the sweeps, newest first, taken at `stamps_ns`, that belong to a frame: up to `sweeps` of them.

    interval: time between them [s]; a sweep that follows by less than INTERVAL_TOLERANCE of it is passed over, so that
    a LiDAR that turns at 10 Hz gives the same frame as one at 20 Hz. None: every sweep.
    """
    least_ns = INTERVAL_TOLERANCE * (interval or 0.0) * 1e9
    chosen: list[int] = []
    for i, stamp_ns in enumerate(stamps_ns):
        if not chosen or stamps_ns[chosen[-1]] - stamp_ns >= least_ns:
            chosen.append(i)
        if len(chosen) == sweeps:
            break
    return chosen


def accumulate_sweeps(sweeps: Iterable[Sweep]) -> np.ndarray:
    """Merge the points (N, 5) of all sweeps in base_link at the time of the first one, which is the newest.

    The fifth column is dt = newest stamp − sweep stamp in seconds. Older sweeps lose the returns of the ego
    vehicle, which ego-motion compensation would smear (the keyframe keeps them, as in BEVFusion's loading).
    Memory is by column, as a pillar encoder reads it.
    Give an iterator where sweeps are read from files: they are taken one by one, and ten of them held at once cost more
    time, in fresh memory, than all the rest of this function.
    """
    sweeps = iter(sweeps)
    newest = next(sweeps)
    base_from_odom = inverse(newest.odom_from_base)
    parts = [_placed(newest, newest.points, base_from_odom, 0)]
    for sweep in sweeps:
        kept = without_own_roof(sweep.points) if sweep.older is None else sweep.older
        parts.append(_placed(sweep, kept, base_from_odom, (newest.stamp_ns - sweep.stamp_ns) * 1e-9))
    return np.concatenate(parts, axis=1).T


def without_own_roof(points: np.ndarray) -> np.ndarray:
    """Select the points (N, 4) outside the ego vehicle's footprint."""
    outside = (np.abs(points[:, 0]) >= EGO_HALF_SIZE_M) | (np.abs(points[:, 1]) >= EGO_HALF_SIZE_M)
    return points.compress(outside, axis=0)  # a quarter of the time of points[outside]


def _placed(sweep: Sweep, points: np.ndarray, base_from_odom: np.ndarray, age: float) -> np.ndarray:
    """Transform a sweep's points (N, 4) to float32 (5, N); one product takes half the time of column by column."""
    base_from_sensor = (base_from_odom @ sweep.odom_from_base @ sweep.base_from_sensor).astype(np.float32)
    placed = np.empty((5, len(points)), np.float32)
    np.matmul(base_from_sensor[:3, :3], points[:, :3].T, out=placed[:3])
    placed[:3] += base_from_sensor[:3, 3:]
    placed[3], placed[4] = points[:, INTENSITY], age
    return placed

"""Rigid transforms as float64 (4, 4) matrices, always named `dst_from_src` so that neighbours cancel.

Not scipy's Rotation: it takes four times as long, and its last bits differ, which every index and synthetic dataset
would show.
"""

import math
from collections.abc import Sequence

import numpy as np


def matrix_from_pose(
    translation: Sequence[float] | np.ndarray, quaternion_wxyz: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Matrix (4, 4) `parent_from_child` of a child's pose in its parent: translation [m], quaternion w, x, y, z."""
    quaternion = np.asarray(quaternion_wxyz, dtype=np.float64)
    # Python's floats: with NumPy's, and its norm, a pose takes twice as long, and a frame of the node needs ten.
    w, x, y, z = (quaternion / math.sqrt(quaternion.dot(quaternion))).tolist()
    tx, ty, tz = np.asarray(translation, dtype=np.float64).tolist()
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), tx],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x), ty],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y), tz],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def rotation_from_angles(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Compute the rotation (3, 3) by roll about x, then pitch about y, then yaw about z, fixed axes [rad]; as URDF."""
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    return (
        np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    )


def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Convert the rotation in a (3, 3) or (4, 4) matrix to a unit quaternion (w, x, y, z), w ≥ 0.

    Source: Bar-Itzhack, "New method for extracting the quaternion from a rotation matrix" (2000): the
    eigenvector of the largest eigenvalue, which is stable at every angle.
    """
    m = np.asarray(matrix, dtype=np.float64)
    k = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2]],
            [m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2]],
            [m[1, 0] - m[0, 1], m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    quaternion = np.linalg.eigh(k)[1][:, -1]
    return -quaternion if quaternion[0] < 0 else quaternion


def yaw_of(matrix: np.ndarray) -> float:
    """Heading [rad] of the x axis of a rotation, counter-clockwise from the parent's +x."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def inverse(dst_from_src: np.ndarray) -> np.ndarray:
    """Invert a rigid (4, 4) transform: `src_from_dst`."""
    src_from_dst = np.eye(4)
    src_from_dst[:3, :3] = dst_from_src[:3, :3].T
    src_from_dst[:3, 3] = -dst_from_src[:3, :3].T @ dst_from_src[:3, 3]
    return src_from_dst


def apply(dst_from_src: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Transform points (N, 3) of the frame `src` to `dst`; the dtype of the points stays."""
    rotation = dst_from_src[:3, :3].astype(points.dtype)
    return points @ rotation.T + dst_from_src[:3, 3].astype(points.dtype)

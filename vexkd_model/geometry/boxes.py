"""Boxes as numbers: corners, changes of frame, nuScenes' notation and the points inside.

`values` is always (M, ≥ 7) in the order of `types.BOX_FIELDS`: centre [m], length, width, height [m], yaw [rad], then
velocity [m/s] where a function needs it. Everything is computed in float64, because nuScenes' global frame is
kilometres wide, and returned in the dtype that came in.
"""

import numpy as np

from vexkd_model.geometry.transforms import apply, quaternion_from_matrix

# Signs of (length, width) at the corners: front left, rear left, rear right, front right; counter-clockwise from above.
CORNER_SIGNS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])


def corners_bev(values: np.ndarray) -> np.ndarray:
    """Compute the corners of the footprints, x and y (M, 4, 2) [m]: front left, rear left, rear right, front right."""
    values = np.asarray(values)
    precise = values.astype(np.float64)
    x, y = np.moveaxis(CORNER_SIGNS * precise[:, None, 3:5] / 2, -1, 0)
    cos, sin = np.cos(precise[:, 6:7]), np.sin(precise[:, 6:7])
    turned = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    return (turned + precise[:, None, :2]).astype(values.dtype)


def corners(values: np.ndarray) -> np.ndarray:
    """Compute corners (M, 8, 3) [m]: the four of `corners_bev` at the bottom, then the same four at the top."""
    values = np.asarray(values)
    footprint = np.tile(corners_bev(values), (1, 2, 1))
    half_height = np.repeat([-0.5, 0.5], 4) * values[:, 5:6]
    return np.concatenate([footprint, (values[:, 2:3] + half_height)[..., None].astype(values.dtype)], axis=2)


def tilted_corners(values: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Compute `corners` (M, 8, 3) of boxes whose heights stand along the unit vectors `up` (M, 3) instead of z.

    Annotations stand upright in the world, while base_link pitches and rolls with the vehicle: a degree of it moves
    the corners of a near car by many pixels. Yaw is the heading's projection onto the ground plane, as always.
    """
    values = np.asarray(values)
    precise, up = values.astype(np.float64), np.asarray(up, np.float64)
    cos, sin = np.cos(precise[:, 6]), np.sin(precise[:, 6])
    # the one direction over this yaw that is square to `up`
    heading = np.stack([cos, sin, (cos * up[:, 0] + sin * up[:, 1]) / -up[:, 2]], axis=1)
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    axes = np.stack([heading, np.cross(up, heading), up], axis=1)
    signs = np.column_stack([np.tile(CORNER_SIGNS, (2, 1)), np.repeat([-1, 1], 4)])
    return (precise[:, None, :3] + (signs * precise[:, None, 3:6] / 2) @ axes).astype(values.dtype)


def wrap_angle(angle: np.ndarray) -> np.ndarray:
    """Wrap angles [rad] to (−π, π]."""
    return np.pi - (np.pi - np.asarray(angle)) % (2 * np.pi)


def nuscenes_from_values(
    dst_from_base: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Convert boxes (M, 9) of base_link to nuScenes' notation, in any frame `dst`; all float64.

    Returns translation (M, 3) [m], size (M, 3) as width, length, height [m], rotation (M, 4) as w, x, y, z with the
    full tilt of `dst_from_base`, and velocity (M, 2) [m/s].
    """
    dst_from_base = np.asarray(dst_from_base, dtype=np.float64)
    values = np.asarray(values, dtype=np.float64)
    translation = apply(dst_from_base, values[:, :3])
    w, x, y, z = quaternion_from_matrix(dst_from_base)
    cos, sin = np.cos(values[:, 6] / 2), np.sin(values[:, 6] / 2)
    rotation = np.stack([w * cos - z * sin, x * cos + y * sin, y * cos - x * sin, z * cos + w * sin], axis=1)
    return translation, values[:, [4, 3, 5]], rotation, values[:, 7:9] @ dst_from_base[:2, :2].T


def values_from_nuscenes(
    base_from_src: np.ndarray,
    translation: np.ndarray,
    size_wlh: np.ndarray,
    rotation_wxyz: np.ndarray,
    velocity: np.ndarray,
) -> np.ndarray:
    """Convert boxes in nuScenes' notation, in any frame `src`, to float64 (M, 9) in base_link.

    translation (M, 3) [m], size_wlh (M, 3) [m], rotation_wxyz (M, 4), velocity (M, 2 or 3) [m/s], NaN where unknown.
    The inverse of `nuscenes_from_values`; with two components the vertical velocity counts as zero.
    """
    base_from_src = np.asarray(base_from_src, dtype=np.float64)
    size = np.reshape(size_wlh, (-1, 3)).astype(np.float64)
    velocity = np.asarray(velocity, dtype=np.float64)
    w, x, y, z = np.moveaxis(np.reshape(rotation_wxyz, (-1, 4)).astype(np.float64), 1, 0)
    # first column of the rotation matrix, up to the quaternion's squared length, which arctan2 does not see
    heading = np.stack([w * w + x * x - y * y - z * z, 2 * (x * y + w * z), 2 * (x * z - w * y)], axis=1)
    heading = heading @ base_from_src[:3, :3].T
    values = np.empty((len(size), 9))
    values[:, :3] = apply(base_from_src, np.reshape(translation, (-1, 3)).astype(np.float64))
    values[:, 3:6] = size[:, [1, 0, 2]]
    values[:, 6] = wrap_angle(np.arctan2(heading[:, 1], heading[:, 0]))
    columns = velocity.shape[-1]
    values[:, 7:9] = velocity.reshape(-1, columns) @ base_from_src[:2, :columns].T
    return values


def transform_boxes(dst_from_src: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Convert boxes (M, 9) of the frame `src` to float64 (M, 9) in the frame `dst`, upright in both."""
    return values_from_nuscenes(np.eye(4), *nuscenes_from_values(dst_from_src, values))


def points_in_boxes(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mask, bool (M, N), of the points (N, ≥ 3) that lie in each box, its surface included; both in one frame [m]."""
    points = np.asarray(points)[:, :3].astype(np.float64)
    inside = np.zeros((len(values), len(points)), dtype=bool)
    for row, (x, y, z, length, width, height, yaw) in zip(inside, np.asarray(values, np.float64)[:, :7], strict=True):
        dx, dy = points[:, 0] - x, points[:, 1] - y
        cos, sin = np.cos(yaw), np.sin(yaw)
        row[:] = np.abs(cos * dx + sin * dy) <= length / 2
        row &= np.abs(cos * dy - sin * dx) <= width / 2
        row &= np.abs(points[:, 2] - z) <= height / 2
    return inside

"""Pinhole cameras: points and boxes of base_link → pixels.

Pixels are continuous, (column, row): pixel (i, j) covers [i, i + 1) × [j, j + 1), so that the image's upper left corner
is (0, 0). A camera is one float64 (3, 4) matrix `image_from_base`, which takes a point of base_link to
(u · depth, v · depth, depth); depth [m] is measured along the view. What is nearer than NEAR_M counts as behind it.
"""

import numpy as np

NEAR_M = 0.1
# The twelve edges of a box as pairs of its corners, in the order of `boxes.corners`: bottom, top, posts.
EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)])
FRONT = np.array([0, 3, 7, 4])  # corners of the face towards which the box heads


def projection(image_from_camera: np.ndarray, base_from_camera: np.ndarray) -> np.ndarray:
    """Compute `image_from_base`, float64 (3, 4).

    image_from_camera: (3, 3), the intrinsics, preceded by the affine of a resized, cropped, turned or mirrored image.
    base_from_camera: (4, 4); it may scale or mirror, as augmentation does, so it is inverted as a general matrix.
    """
    return np.asarray(image_from_camera, np.float64) @ np.linalg.inv(np.asarray(base_from_camera, np.float64))[:3]


def project(image_from_base: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project points (..., ≥ 3) of base_link [m]: float64 pixels (..., 2), NaN behind the camera; depth (...) [m]."""
    scaled = _homogeneous(image_from_base, points)
    depth = scaled[..., 2]
    in_front = np.where(depth >= NEAR_M, depth, np.nan)
    return scaled[..., :2] / in_front[..., None], depth


def inside(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask, bool (...), of the pixels (..., 2) that lie in an image of this (width, height); NaN lies outside."""
    return ((pixels >= 0) & (pixels < size)).all(axis=-1)


def visible_edges(image_from_base: np.ndarray, corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Clip the edges of boxes at the image's border: float64 (M, 12, 2, 2), both ends of each of EDGES in pixels.

    corners: (M, 8, 3) of `boxes.corners` in base_link [m]. size: (width, height) [px]. An edge of which nothing lies in
    the image is NaN. Cyrus and Beck (1978): the five planes that bound the view are linear in (u · depth, v · depth,
    depth), so an edge is cut before anything is divided by its depth, wherever its ends lie.
    """
    ends = _homogeneous(image_from_base, corners)[:, EDGES]
    u, v, depth = np.moveaxis(ends, -1, 0)
    # (5, M, 12, 2): at least zero on the visible side of the near plane and of the left, right, upper and lower border
    first, last = np.moveaxis(np.stack([depth - NEAR_M, u, size[0] * depth - u, v, size[1] * depth - v]), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = first / (first - last)
    enter = np.where(first < 0, crossing, 0.0).max(axis=0)
    leave = np.where(last < 0, crossing, 1.0).min(axis=0)
    seen = ~((first < 0) & (last < 0)).any(axis=0) & (enter <= leave)
    shares = np.where(seen[..., None], np.stack([enter, leave], axis=-1), np.nan)[..., None]
    cut = ends[..., :1, :] + shares * (ends[..., 1:, :] - ends[..., :1, :])
    return cut[..., :2] / cut[..., 2:]


def visible_boxes(edges: np.ndarray) -> np.ndarray:
    """Mask, bool (M,), of the boxes of `visible_edges` of which any piece of an edge lies in the image."""
    return np.isfinite(edges).all(axis=(2, 3)).any(axis=1)


def _homogeneous(image_from_base: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Compute (u · depth, v · depth, depth), float64 (..., 3), of points (..., ≥ 3) of base_link [m]."""
    return np.asarray(points)[..., :3].astype(np.float64) @ image_from_base[:, :3].T + image_from_base[:, 3]

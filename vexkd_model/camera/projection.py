"""Projection into batches of cameras: points of base_link → pixels and depth; geometry/camera.py in PyTorch.

Products and sums stand in place of matmul: neither autocast nor TF32 may round positions.
"""

import torch
from torch import Tensor

from vexkd_model.data.batch import CameraBatch

MIN_DEPTH = 1e-5  # metres; what is nearer counts as behind the camera


def image_from_base(cameras: CameraBatch) -> Tensor:
    """Compute matrices (B, N, 3, 4): a point (x, y, z, 1) of base_link → (u · depth, v · depth, depth)."""
    rotation, translation = cameras.base_from_camera[..., :3, :3], cameras.base_from_camera[..., :3, 3:]
    linear = product(cameras.image_from_camera, inverse_3x3(rotation))
    return torch.cat([linear, -product(linear, translation)], dim=-1)


def project(matrices: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Project points (..., ≥ 3) of base_link [m] to pixels (..., 2) and depth (...) [m].

    matrices: `image_from_base`, (..., 3, 4), whose leading dimensions broadcast with those of the points. Pixels mean
    nothing where depth is not greater than MIN_DEPTH.
    """
    of_x, of_y, of_z, shift = matrices.unbind(dim=-1)
    x, y, z = points[..., :3, None].unbind(dim=-2)
    scaled = of_x * x + of_y * y + of_z * z + shift
    depth = scaled[..., 2]
    return scaled[..., :2] / depth.clamp(min=MIN_DEPTH)[..., None], depth


def inverse_3x3(matrix: Tensor) -> Tensor:
    """Invert (..., 3, 3) by cross products of its columns: an exported graph then holds no solver."""
    a, b, c = matrix.unbind(dim=-1)
    rows = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=-2)
    return rows / (a * rows[..., 0, :]).sum(-1)[..., None, None]


def product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply small matrices (..., I, J) · (..., J, K), whatever autocast would round them to."""
    return (left[..., :, :, None] * right[..., None, :, :]).sum(dim=-2)

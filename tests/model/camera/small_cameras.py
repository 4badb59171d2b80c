"""Cameras of 32×16 pixels, for tests that place points in images by hand."""

import numpy as np
import torch

from vexkd_model.data.batch import CameraBatch

WIDTH, HEIGHT = 32, 16
INTRINSICS = np.array([[20.0, 0, 16], [0, 20, 8], [0, 0, 1]])
AHEAD = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])  # 1.5 m up, looking along x


def turned(yaw):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    return turn


def cameras(bases, intrinsics=INTRINSICS, present=None, dtype=torch.float32):
    """A batch of one frame a row of `bases`, with one camera an entry."""
    bases = torch.tensor(np.array(bases), dtype=dtype)
    shape = bases.shape[:2]
    return CameraBatch(
        images=torch.zeros(*shape, 3, HEIGHT, WIDTH, dtype=torch.uint8),
        present=torch.ones(shape, dtype=torch.bool) if present is None else torch.tensor(present),
        image_from_camera=torch.tensor(intrinsics, dtype=dtype).expand(*shape, 3, 3),
        image_from_stored=torch.eye(3, dtype=dtype).expand(*shape, 3, 3), base_from_camera=bases)

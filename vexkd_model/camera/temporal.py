"""Temporal fusion: past BEV maps are encoded, moved into the present base_link, and concatenated with the present one.

Source: BEVDet4D (Huang & Huang 2022), section 3.3 and public code; its long-term models keep 8 past frames.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vexkd_model.geometry.bev_grid import centres_in_cells, metres_from_cells, sample_from_metres
from vexkd_model.layers import Conv2d
from vexkd_model.types import BevGrid


class FrameEncoder(nn.Module):
    """Residual block (B, C, Y, X) → the same shape, which each frame's map passes before it is moved.

    BEVDet4D's `pre_process_net`; its shortcut is a 3×3 convolution too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = Conv2d(channels, channels, 3, padding=1)

    def forward(self, bev: Tensor) -> Tensor:
        return (self.layers(bev) + self.shortcut(bev)).relu()


class TemporalFusion(nn.Module):
    """Concatenation of the present map (B, C, Y, X) and `frames` past ones, newest first → (B, channels, Y, X).

    channels: C · (1 + frames).
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.channels = channels * (1 + frames)

    def forward(self, now: Tensor, past: Sequence[Tensor], present: Tensor) -> Tensor:
        """Concatenate maps, newest first. past: maps of `align`, newest first. present: bool (B, frames).

        Where a past frame is absent stands the present map: at a scene's start BEVDet4D reads the present frame again.
        """
        if len(past) != self.frames:
            raise ValueError(f"{len(past)} past maps were given to a fusion of {self.frames}")
        known = present[:, :, None, None, None]
        return torch.cat([now, *(torch.where(known[:, i], then, now) for i, then in enumerate(past))], dim=1)


def align(past: Tensor, now_from_then: Tensor, grid: BevGrid) -> Tensor:
    """Move a past map (B, C, Y, X) into the present base_link, in float32; bilinear, zero where it did not reach.

    now_from_then: (B, 4, 4), from the base_link of the past map to the present one. What it does in the ground plane
    counts; it may scale and mirror.
    """
    x, y = metres_from_cells(centres_in_cells(grid.shape, past.device), grid).unbind(dim=-1)
    entry = now_from_then.float()[:, :, :, None, None]
    dx, dy = x - entry[:, 0, 3], y - entry[:, 1, 3]
    a, b, c, d = entry[:, 0, 0], entry[:, 0, 1], entry[:, 1, 0], entry[:, 1, 1]
    determinant = a * d - b * c
    then = torch.stack([(d * dx - b * dy) / determinant, (a * dy - c * dx) / determinant], dim=-1)
    # In float32: bfloat16 positions would be off by up to a quarter of a metre.
    return functional.grid_sample(past.float(), sample_from_metres(then, grid), mode="bilinear", align_corners=False)

"""Depth along the view [m]: bins, depth images of LiDAR returns, targets of a depth net, and its loss.

Depth is the camera's z, not the distance. BEV augmentation, which base_from_camera carries, leaves it as it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vexkd_model.camera.projection import image_from_base, project
from vexkd_model.data.batch import CameraBatch
from vexkd_model.distributed import mean_count
from vexkd_model.geometry.camera import NEAR_M

NO_RETURN = -1


@dataclass(frozen=True)
class DepthBins:
    """Depth bins: bin i holds [start + i · step, start + (i + 1) · step) [m] and is lifted to its middle.

    Published code supervises the same intervals but lifts a bin to its left edge, half a bin too near: BEVDet's samples
    `arange(1, 60, 1)` are the middles of DepthBins(0.5, 59.5, 1). A range that does not divide is a ValueError.
    """

    start: float
    stop: float
    step: float

    def __post_init__(self) -> None:
        bins = (self.stop - self.start) / self.step
        if self.start < 0 or bins < 2 or abs(bins - round(bins)) > 1e-6:
            raise ValueError(f"depths {self.start} … {self.stop} m do not divide into 2 or more bins of {self.step} m")

    @property
    def count(self) -> int:
        """Number of bins, D."""
        return round((self.stop - self.start) / self.step)

    def centres(self) -> Tensor:
        """Middles of the bins, float32 (D,) [m]."""
        return (self.start + (torch.arange(self.count, dtype=torch.float64) + 0.5) * self.step).float()


def depth_images(points: Tensor, sample: Tensor, cameras: CameraBatch) -> Tensor:
    """Draw depth images, float32 (B, N, H, W): the nearest return in each pixel [m], 0 where there is none.

    points: (P, ≥ 3) in base_link [m]. sample: int64 (P,), the frame of each. What is nearer than NEAR_M, outside an
    image or not finite is left out; an absent camera sees nothing.
    """
    frames, count, _, height, width = cameras.images.shape
    matrices = image_from_base(cameras)
    nearest = points.new_full((frames * count * height * width,), torch.inf, dtype=torch.float32)
    elsewhere = torch.arange(points.shape[0], device=points.device) % nearest.shape[0]
    for camera in range(count):
        pixels, depth = project(matrices[:, camera][sample], points)
        u, v = pixels.unbind(dim=-1)
        seen = (depth >= NEAR_M) & (u >= 0) & (u < width) & (v >= 0) & (v < height) & cameras.present[:, camera][sample]
        pixel = ((sample * count + camera) * height + v.long()) * width + u.long()
        # Infinity changes no minimum: unseen points go anywhere, spread so that a GPU's atomics do not queue up.
        nearest = nearest.scatter_reduce(0, torch.where(seen, pixel, elsewhere), depth.where(seen, torch.inf), "amin")
    return nearest.where(nearest.isfinite(), 0.0).view(frames, count, height, width)


def depth_targets(depth: Tensor, stride: int, bins: DepthBins) -> Tensor:
    """Find the bin of the nearest return in each block of pixels, int64 (B, N, H / stride, W / stride), or NO_RETURN.

    depth: (B, N, H, W) of `depth_images`. A block whose nearest return lies outside the bins has no target, even if a
    farther return does not. Source: BEVDepth (Li et al., AAAI 2023), its public code.
    """
    blocks = depth.where(depth > 0, torch.inf).unflatten(3, (-1, stride)).unflatten(2, (-1, stride))
    index = torch.floor((blocks.amin(dim=(3, 5)) - bins.start) / bins.step)
    return index.where((index >= 0) & (index < bins.count), NO_RETURN).long()


def depth_loss(logits: Tensor, target: Tensor, weight: float) -> Tensor:
    """Compute the binary cross-entropy of depth probabilities, × weight.

    Summed over bins, mean over the cells with a return, 0 where none has one. logits: (B, N, D, h, w). target:
    (B, N, h, w) of `depth_targets`. Source: BEVDepth, which weighs it 3.0. In logits, so that it has a gradient at
    saturation.
    """
    target = target.flatten()
    known = (target != NO_RETURN).nonzero()[:, 0]
    logits = logits.float().movedim(2, -1).flatten(0, -2)[known]
    log_yes = functional.log_softmax(logits, dim=-1)
    of_target = functional.one_hot(target[known], logits.shape[-1]).bool()
    cells = mean_count(torch.full((), len(known), device=target.device))
    return -torch.where(of_target, log_yes, _log_complement(logits, log_yes)).sum() * weight / cells


def _log_complement(logits: Tensor, log_softmax: Tensor) -> Tensor:
    """Compute log(1 − softmax) of (M, D), exact where one probability rounds to 1: from the sum of the others."""
    largest = functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    others = logits.masked_fill(largest, -torch.inf).logsumexp(dim=-1, keepdim=True)
    # No probability but the largest exceeds one half; the clamp keeps the unused branch's gradient finite.
    complement = torch.log1p(-log_softmax.exp().clamp(max=0.5))
    return torch.where(largest, others - logits.logsumexp(dim=-1, keepdim=True), complement)

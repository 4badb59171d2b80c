"""Batches: samples side by side, as tensors with names."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vexkd_model.config import ImageConfig
from vexkd_model.errors import UserError
from vexkd_model.types import CameraImage, Frame

if TYPE_CHECKING:
    from vexkd_model.data.dataset import Sample


@dataclass
class CameraBatch:
    """The N cameras of a student's configuration, in its order, for each of B frames.

    images: uint8 (B, N, 3, H, W) RGB, black where a camera is absent. present: bool (B, N).
    image_from_camera: float32 (B, N, 3, 3), to pixels of `images`: (x, y, z) → (u · z, v · z, z). image_from_stored:
    float32 (B, N, 3, 3), the part of it that is resize, crop and augmentation. base_from_camera: float32 (B, N, 4, 4),
    with the BEV augmentation in training. Matrices of an absent camera are identities.
    """

    images: Tensor
    present: Tensor
    image_from_camera: Tensor
    image_from_stored: Tensor
    base_from_camera: Tensor

    def to(self, device: torch.device | str) -> "CameraBatch":
        return _on_device(self, device)


@dataclass
class Batch:
    """points (N, 5) of all samples with their sample's number (N,); boxes (M, 9) and labels (M,) a sample;
    map_masks float (B, 6, Y, X); map_known bool (B, Y, X); tokens of the samples; cameras, where they are read."""

    points: Tensor
    sample: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    map_masks: Tensor
    map_known: Tensor
    tokens: list[str]
    cameras: CameraBatch | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> "Batch":
        return _on_device(self, device)


def _on_device(value: object, device: torch.device | str) -> object:
    """Tensors, lists of them and batches of them, copied to a device; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [_on_device(item, device) for item in value]
    if isinstance(value, Batch | CameraBatch):
        return type(value)(**{field.name: _on_device(getattr(value, field.name), device) for field in fields(value)})
    return value


def collate(samples: Sequence["Sample | UserError"], images: ImageConfig | None = None) -> Batch | UserError:
    """images: what the student reads of its cameras, if it has any. An error among the samples takes their place."""
    if errors := [sample for sample in samples if isinstance(sample, UserError)]:
        return errors[0]
    numbers = [np.full(len(sample.frame.points), i) for i, sample in enumerate(samples)]
    return Batch(
        points=torch.from_numpy(np.concatenate([sample.frame.points for sample in samples])),
        sample=torch.from_numpy(np.concatenate(numbers)),
        boxes=[torch.from_numpy(sample.boxes.values) for sample in samples],
        labels=[torch.from_numpy(sample.boxes.labels) for sample in samples],
        map_masks=torch.from_numpy(np.stack([sample.map_masks for sample in samples])).float(),
        map_known=torch.from_numpy(np.stack([sample.map_known for sample in samples])),
        tokens=[sample.frame.token for sample in samples],
        cameras=stack_cameras([sample.frame for sample in samples], images) if images else None,
    )


def stack_cameras(frames: Sequence[Frame], images: ImageConfig) -> CameraBatch:
    """The cameras of frames whose images have been cropped to images.width × images.height."""
    black = np.zeros((images.height, images.width, 3), np.uint8)
    absent = CameraImage("", black, 0, np.eye(3), np.eye(3), np.eye(4))
    found = [{image.name: image for image in frame.cameras} for frame in frames]
    rows = [[there.get(name, absent) for name in images.cameras] for there in found]

    def stacked(attribute: str) -> Tensor:
        return torch.from_numpy(np.array([[getattr(image, attribute) for image in row] for row in rows]))

    return CameraBatch(
        images=stacked("pixels").permute(0, 1, 4, 2, 3).contiguous(),
        present=torch.tensor([[image is not absent for image in row] for row in rows]),
        image_from_camera=stacked("image_from_camera").float(),
        image_from_stored=stacked("image_from_stored").float(),
        base_from_camera=stacked("base_from_camera").float(),
    )

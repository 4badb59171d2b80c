"""Samples, and batches of them as named tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.config.camera import ImageConfig
from vexkd_model.data.network_frame import move_boxes, move_frame
from vexkd_model.errors import UserError
from vexkd_model.types import Boxes, CameraImage, Frame, PastFrame

DARKEST_SIGHT = 16  # of 255; the brightest pixel of a night has more, sensor noise behind a cap less


@dataclass(frozen=True)
class Sample:
    """Frame with its ground truth.

    boxes: in base_link. map_masks: bool (6, Y, X) in the order of MAP_CLASSES, and map_known: bool (Y, X), the cells
    where they hold, both on SEGMENTATION_GRID. labelled: False for a frame without annotations, of which neither boxes
    nor map are known.
    """

    frame: Frame
    boxes: Boxes
    map_masks: np.ndarray
    map_known: np.ndarray
    labelled: bool = True


@dataclass
class CameraBatch:
    """Images and calibration of the N cameras of a model's configuration, in its order, for each of B frames.

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


@dataclass
class PastCameras:
    """Camera images of each frame at one earlier moment.

    cameras: their base_from_camera leads to base_link at that moment. now_from_then: float32 (B, 4, 4), from base_link
    at that moment to the frame's, with the BEV augmentation on both sides. present: bool (B,), whether there was one;
    where not, the cameras are those of the frame itself.
    """

    cameras: CameraBatch
    now_from_then: Tensor
    present: Tensor


@dataclass
class SensorBatch:
    """Sensor input of a model for B = `size` frames, in the network's frame: base_link, or that of its configuration.

    points: float32 (N, 5) of all frames in the order of POINT_FIELDS, with their frame's number `sample` int64 (N,).
    cameras: None where none are read. past: earlier moments, newest first, as many as the configuration reads.
    """

    points: Tensor
    sample: Tensor
    size: int
    cameras: CameraBatch | None = None
    past: list[PastCameras] = field(default_factory=list)

    def to(self, device: torch.device | str) -> "SensorBatch":
        """Copy all tensors to a device; from pinned memory, without waiting for what the device has still to do."""
        return _mapped(self, partial(_on_device, device=device))

    def present(self) -> dict[str, Tensor]:
        """Masks bool (B,) by sensor of the frames in which the LiDAR returned any point, or any camera saw anything."""
        points_of_frame = self.sample.new_zeros(self.size).index_add(0, self.sample, torch.ones_like(self.sample))
        present = {"lidar": points_of_frame > 0}
        if self.cameras is not None:
            present["camera"] = self.cameras.present.any(dim=1)
        return present


@dataclass
class Batch:
    """Sensor input and ground truth of B samples.

    boxes: (M, 9) of each sample in the network's frame, as `sensors`. labels: int64 (M,) of each. map_masks: float
    (B, 6, Y, X), in base_link. map_known: bool (B, Y, X). tokens: of the samples. teacher: a teacher's sensor input for
    the same samples, if any. unlabelled: numbers of the samples without annotations, which no task loss looks at.
    """

    sensors: SensorBatch
    boxes: list[Tensor]
    labels: list[Tensor]
    map_masks: Tensor
    map_known: Tensor
    tokens: list[str]
    teacher: SensorBatch | None = None
    unlabelled: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> "Batch":
        """Copy all tensors to a device; from pinned memory, without waiting for what the device has still to do."""
        return _mapped(self, partial(_on_device, device=device))

    def pin_memory(self) -> "Batch":
        """Copy all tensors to pinned memory, from which a GPU fetches them by itself."""
        return _mapped(self, Tensor.pin_memory)


def _on_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.to(device, non_blocking=tensor.is_pinned())


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to tensors, lists of them and batches of them; anything else stays as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, list):
        return [_mapped(item, function) for item in value]
    if isinstance(value, Batch | SensorBatch | PastCameras | CameraBatch):
        return type(value)(**{name.name: _mapped(getattr(value, name.name), function) for name in fields(value)})
    return value


def collate(
    samples: Sequence[Sample | UserError],
    images: ImageConfig | None = None,
    past_frames: int = 0,
    network_from_base: np.ndarray | None = None,
) -> Batch | UserError:
    """Collate samples to a Batch, or return the first error among them.

    images: configuration of the model's cameras, if it has any. past_frames: earlier moments that it reads.
    network_from_base: to the model's frame, None for base_link.
    """
    whole: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        whole.append(sample)
    boxes = [move_boxes(sample.boxes, network_from_base) for sample in whole]
    return Batch(
        sensors=stack_frames([sample.frame for sample in whole], images, past_frames, network_from_base),
        boxes=[torch.from_numpy(of_sample.values) for of_sample in boxes],
        labels=[torch.from_numpy(sample.boxes.labels) for sample in whole],
        map_masks=torch.from_numpy(np.stack([sample.map_masks for sample in whole])).float(),
        map_known=torch.from_numpy(np.stack([sample.map_known for sample in whole])),
        tokens=[sample.frame.token for sample in whole],
        unlabelled=[i for i, sample in enumerate(whole) if not sample.labelled],
    )


def collate_for(config: ModelConfig) -> Callable[[Sequence[Sample | UserError]], Batch | UserError]:
    """Make the collate function of a model, with the cameras, past frames and frame of its configuration."""
    camera = config.camera
    return partial(
        collate,
        images=camera and camera.images,
        past_frames=camera.past_frames if camera else 0,
        network_from_base=config.network_from_base,
    )


def sensors_for(config: ModelConfig, frames: Sequence[Frame]) -> SensorBatch:
    """Stack frames to the input of a model, with the cameras, past frames and frame of its configuration."""
    camera = config.camera
    return stack_frames(frames, camera and camera.images, camera.past_frames if camera else 0, config.network_from_base)


def stack_frames(
    frames: Sequence[Frame],
    images: ImageConfig | None = None,
    past_frames: int = 0,
    network_from_base: np.ndarray | None = None,
) -> SensorBatch:
    """Stack frames, with `past_frames` earlier moments each, whose images already have the size of `images`.

    network_from_base: float64 (4, 4), moves all of them to the frame of the model; None: it works in base_link.
    """
    frames = [move_frame(frame, network_from_base) for frame in frames]
    numbers = np.repeat(np.arange(len(frames)), [len(frame.points) for frame in frames])
    parts = [np.asarray(frame.points, np.float32) for frame in frames]
    points = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return SensorBatch(
        torch.from_numpy(points),
        torch.from_numpy(numbers),
        len(frames),
        cameras=stack_cameras([frame.cameras for frame in frames], images) if images else None,
        past=[_stack_past(frames, i, images) for i in range(past_frames)] if images else [],
    )


def _stack_past(frames: Sequence[Frame], i: int, images: ImageConfig) -> PastCameras:
    # Where there was no such moment, the present again, as BEVDet4D: statistics that batch norms take of black images
    # would serve no image later.
    then = [frame.past[i] if i < len(frame.past) else PastFrame(frame.cameras, np.eye(4)) for frame in frames]
    return PastCameras(
        stack_cameras([past.cameras for past in then], images),
        torch.from_numpy(np.stack([past.now_from_then for past in then])).float(),
        torch.tensor([i < len(frame.past) for frame in frames]),
    )


def stack_cameras(images_of_frames: Sequence[Sequence[CameraImage]], images: ImageConfig) -> CameraBatch:
    """Stack the cameras of frames whose images have been cropped to images.width × images.height.

    A camera whose image is all dark, covered or without signal, counts as absent: it knows nothing.
    """
    black = np.zeros((images.height, images.width, 3), np.uint8)
    absent = CameraImage("", black, 0, np.eye(3), np.eye(3), np.eye(4))
    by_name = [{image.name: image for image in frame} for frame in images_of_frames]
    rows = [[present.get(name, absent) for name in images.cameras] for present in by_name]

    def stacked(attribute: str) -> Tensor:
        return torch.from_numpy(np.array([[getattr(image, attribute) for image in row] for row in rows]))

    return CameraBatch(
        images=stacked("pixels").permute(0, 1, 4, 2, 3).contiguous(),
        present=torch.tensor(
            [[image is not absent and image.pixels.max() >= DARKEST_SIGHT for image in row] for row in rows]
        ),
        image_from_camera=stacked("image_from_camera").float(),
        image_from_stored=stacked("image_from_stored").float(),
        base_from_camera=stacked("base_from_camera").float(),
    )

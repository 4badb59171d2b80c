"""Frames of a prepared dataset, as a student sees them, and the batches made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vexkd_model.config import AugmentConfig
from vexkd_model.data.augment import BevAugmentation
from vexkd_model.data.index import FrameIndex, FrameRecord
from vexkd_model.data.map_masks import SEGMENTATION_GRID
from vexkd_model.data.sweeps import accumulate_sweeps
from vexkd_model.types import MAP_CLASSES, Boxes, Frame


@dataclass(frozen=True)
class Sample:
    """A frame and what is true in it: boxes in base_link, map masks bool (6, Y, X) and known cells bool (Y, X)."""

    frame: Frame
    boxes: Boxes
    map_masks: np.ndarray
    map_known: np.ndarray


@dataclass
class Batch:
    """points (N, 5) of all samples with their sample's number (N,); boxes (M, 9) and labels (M,) a sample;
    map_masks float (B, 6, Y, X); map_known bool (B, Y, X); tokens of the samples."""

    points: Tensor
    sample: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    map_masks: Tensor
    map_known: Tensor
    tokens: list[str]

    def __len__(self) -> int:
        return len(self.boxes)


def load_frame(record: FrameRecord, sweeps: int) -> Frame:
    """The student's input at a keyframe: its sweep and up to `sweeps` − 1 before it, ego motion compensated."""
    points = accumulate_sweeps([sweep.load() for sweep in record.sweeps[:sweeps]])
    return Frame(points, record.stamp_ns, record.token)


def load_sample(index: FrameIndex, i: int, sweeps: int) -> Sample:
    """A frame with its ground truth; boxes without a LiDAR point are left out, as the devkit's metric does."""
    record, masks = index[i], index.map_mask(i)
    seen = record.lidar_points > 0
    boxes = Boxes(record.boxes.values[seen], record.boxes.labels[seen])
    known = np.full(SEGMENTATION_GRID.shape, masks is not None)
    if masks is None:
        masks = np.zeros((len(MAP_CLASSES), *SEGMENTATION_GRID.shape), bool)
    return Sample(load_frame(record, sweeps), boxes, masks, known)


class TrainingSet(Dataset[Sample]):
    """Augmented samples. An item is asked for by (epoch, i), and its random numbers depend on nothing else, so that
    the same seed gives the same batches for any number of workers."""

    def __init__(self, index: FrameIndex, sweeps: int, augment: AugmentConfig, seed: int) -> None:
        self.index, self.sweeps, self.augment, self.seed = index, sweeps, augment, seed

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, i = key
        rng = np.random.default_rng((self.seed, epoch, i))
        augmentation = BevAugmentation.draw(rng, **self.augment.model_dump())
        return _augmented(load_sample(self.index, i, self.sweeps), augmentation)


def _augmented(sample: Sample, augmentation: BevAugmentation) -> Sample:
    masks, covered = augmentation.masks(sample.map_masks, SEGMENTATION_GRID)
    frame = Frame(augmentation.points(sample.frame.points), sample.frame.stamp_ns, sample.frame.token)
    return Sample(frame, augmentation.boxes(sample.boxes), masks, covered & sample.map_known.any())


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, i) for every frame, in an order drawn from seed and epoch; Lightning calls `set_epoch`."""

    def __init__(self, frames: int, seed: int) -> None:
        self.frames, self.seed, self.epoch = frames, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.frames)
        return ((self.epoch, int(i)) for i in order)


def collate(samples: Sequence[Sample]) -> Batch:
    numbers = [np.full(len(sample.frame.points), i) for i, sample in enumerate(samples)]
    return Batch(
        points=torch.from_numpy(np.concatenate([sample.frame.points for sample in samples])),
        sample=torch.from_numpy(np.concatenate(numbers)),
        boxes=[torch.from_numpy(sample.boxes.values) for sample in samples],
        labels=[torch.from_numpy(sample.boxes.labels) for sample in samples],
        map_masks=torch.from_numpy(np.stack([sample.map_masks for sample in samples])).float(),
        map_known=torch.from_numpy(np.stack([sample.map_known for sample in samples])),
        tokens=[sample.frame.token for sample in samples],
    )

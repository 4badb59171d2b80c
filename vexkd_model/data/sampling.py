"""Samplers: order and frequency of the frames that an epoch draws."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from vexkd_model.data.index import FrameIndex
from vexkd_model.distributed import Shard
from vexkd_model.types import DETECTION_CLASSES


class Draw(NamedTuple):
    """Key of an item of a TrainingSet, on which its random numbers depend beside the seed.

    repeat: tells the draws of the same frame in the same epoch apart.
    """

    epoch: int
    frame: int
    repeat: int = 0


class EpochSampler(Sampler[Draw]):
    """Sampler of every frame once, in an order drawn from seed and epoch; Lightning calls `set_epoch`."""

    def __init__(self, frames: int, seed: int) -> None:
        self.frames, self.seed, self.epoch = frames, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[Draw]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.frames)
        return (Draw(self.epoch, int(i)) for i in order)


class ClassBalancedSampler(Sampler[Draw]):
    """Class-balanced sampler (CBGS): all classes of the split are drawn equally often, each in a frame that shows it.

    An epoch has as many draws as there are pairs of a frame and a class in it, rounded to whole shares. A class that
    the split does not show takes no share. Source: Zhu et al., "Class-balanced grouping and sampling for point cloud 3D
    object detection" (2019), as in mmdetection3d's CBGSDataset, but drawn anew for every epoch.
    """

    def __init__(self, index: FrameIndex, seed: int) -> None:
        frames, labels = index.seen_objects()
        frames_of_class = [np.unique(frames[labels == label]) for label in range(len(DETECTION_CLASSES))]
        self.frames_of_class = [frames for frames in frames_of_class if len(frames)]
        self.share = round(sum(map(len, self.frames_of_class)) / max(len(self.frames_of_class), 1))
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.share * len(self.frames_of_class)

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = [rng.choice(frames, self.share) for frames in self.frames_of_class]
        return (Draw(self.epoch, int(i), repeat) for repeat, i in enumerate(rng.permutation(np.ravel(drawn))))


class ShardSampler(Sampler[Draw]):
    """Every W-th draw of a sampler, for process `shard.rank` of W; what is left over at the end is drawn by none.

    Step k of W processes with batches of b therefore sees the frames of step k of one process with batches of W · b.
    """

    def __init__(self, draws: EpochSampler | ClassBalancedSampler, shard: Shard) -> None:
        self.draws, self.shard = draws, shard

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn next."""
        self.draws.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.draws) // self.shard.processes

    def __iter__(self) -> Iterator[Draw]:
        rank, processes = self.shard
        return itertools.islice(self.draws, rank, len(self) * processes, processes)

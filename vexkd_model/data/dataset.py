"""Frames of a prepared dataset, as a student sees them, and the batches made of them."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vexkd_model.config import AugmentConfig, ImageConfig, ModelConfig
from vexkd_model.data.augment import BevAugmentation
from vexkd_model.data.batch import Batch, collate
from vexkd_model.data.image_augment import ImageAugmentation
from vexkd_model.data.images import load_view
from vexkd_model.data.index import FrameIndex, FrameRecord
from vexkd_model.data.map_masks import SEGMENTATION_GRID
from vexkd_model.data.paste import ObjectPaster
from vexkd_model.data.point_database import PointDatabase
from vexkd_model.data.sampling import ClassBalancedSampler, Draw, EpochSampler
from vexkd_model.data.sweeps import accumulate_sweeps
from vexkd_model.errors import UserError
from vexkd_model.process import set_up_process
from vexkd_model.types import CAMERAS, MAP_CLASSES, POINT_FIELDS, Boxes, Frame


@dataclass(frozen=True)
class Sample:
    """A frame and what is true in it: boxes in base_link, map masks bool (6, Y, X) and known cells bool (Y, X)."""

    frame: Frame
    boxes: Boxes
    map_masks: np.ndarray
    map_known: np.ndarray


def load_frame(record: FrameRecord, sweeps: int, images: ImageConfig | None = None,
               augmentations: Mapping[str, ImageAugmentation] | None = None) -> Frame:
    """The student's input at a keyframe: its sweep and up to `sweeps` − 1 before it, ego motion compensated, and the
    images of `images.cameras`, augmented in training. Without `sweeps` or `images` those files are not read."""
    cameras = [camera for camera in record.cameras if images is not None and camera.name in images.cameras]
    points, *views = _side_by_side([
        partial(_points, record, sweeps),
        *(partial(load_view, camera, images, augmentations and augmentations[camera.name]) for camera in cameras)])
    return Frame(points, record.stamp_ns, record.token, tuple(views))


def load_sample(index: FrameIndex, i: int, sweeps: int, images: ImageConfig | None = None) -> Sample:
    """A frame with its ground truth, without the boxes in which no LiDAR point lies.

    The official metrics look for boxes that only a radar saw, too; from points nobody could learn to find them.
    """
    record = index[i]
    return _with_truth(index, i, record, load_frame(record, sweeps, images))


def _side_by_side(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of tasks that read files, in threads where this process has cores left."""
    # A DataLoader's workers share the cores already.
    threads = 1 if get_worker_info() else min(len(tasks), len(os.sched_getaffinity(0)))
    if threads == 1:
        return [task() for task in tasks]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda task: task(), tasks))


def _points(record: FrameRecord, sweeps: int) -> np.ndarray:
    if not sweeps:
        return np.empty((0, len(POINT_FIELDS)), np.float32)
    return accumulate_sweeps(sweep.load() for sweep in record.sweeps[:sweeps])


def _with_truth(index: FrameIndex, i: int, record: FrameRecord, frame: Frame) -> Sample:
    masks, seen = index.map_mask(i), record.lidar_points > 0
    boxes = Boxes(record.boxes.values[seen], record.boxes.labels[seen])
    known = np.full(SEGMENTATION_GRID.shape, masks is not None)
    if masks is None:
        masks = np.zeros((len(MAP_CLASSES), *SEGMENTATION_GRID.shape), bool)
    return Sample(frame, boxes, masks, known)


class TrainingSet(Dataset[Sample | UserError]):
    """Augmented samples. An item is asked for by a Draw, (epoch, frame[, repeat]), and its random numbers depend on
    nothing else, so that the same seed gives the same batches for any number of workers."""

    def __init__(self, index: FrameIndex, sweeps: int, augment: AugmentConfig, seed: int,
                 images: ImageConfig | None = None, paster: ObjectPaster | None = None) -> None:
        self.index, self.sweeps, self.augment, self.seed = index, sweeps, augment, seed
        self.images, self.paster = images, paster

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Draw | tuple[int, int]) -> Sample | UserError:
        """A file that cannot be read is returned as an error, which `collate` passes on: raised in a worker process, it
        would reach the user as a page of traceback."""
        try:
            return self._sample(Draw(*key))
        except UserError as error:
            return error

    def _sample(self, draw: Draw) -> Sample:
        # Streams of their own: whether objects are pasted does not change how images are cropped.
        for_bev, for_images, for_objects = np.random.default_rng((self.seed, *draw)).spawn(3)
        record = self.index[draw.frame]
        frame = load_frame(record, self.sweeps, self.images, self._image_augmentations(for_images))
        sample = _with_truth(self.index, draw.frame, record, frame)
        if self.paster is not None and draw.epoch < self.paster.until_epoch:
            sample = _pasted(sample, self.paster, for_objects)
        return _augmented(sample, BevAugmentation.draw(for_bev, **self.augment.model_dump()))

    def _image_augmentations(self, rng: np.random.Generator) -> dict[str, ImageAugmentation] | None:
        """Every camera has a stream of its own: one that is absent does not change the others."""
        if self.images is None:
            return None
        return {name: ImageAugmentation.draw(stream, self.images.augment)
                for name, stream in zip(CAMERAS, rng.spawn(len(CAMERAS)), strict=True)}


def _pasted(sample: Sample, paster: ObjectPaster, rng: np.random.Generator) -> Sample:
    points, boxes = paster.paste(sample.frame.points, sample.boxes, rng)
    return replace(sample, frame=replace(sample.frame, points=points), boxes=boxes)


def _augmented(sample: Sample, augmentation: BevAugmentation) -> Sample:
    masks, covered = augmentation.masks(sample.map_masks, SEGMENTATION_GRID)
    frame = replace(sample.frame, points=augmentation.points(sample.frame.points),
                    cameras=tuple(map(augmentation.camera, sample.frame.cameras)))
    return Sample(frame, augmentation.boxes(sample.boxes), masks, covered & sample.map_known.any())


def training_loader(config: ModelConfig, index: FrameIndex, workers: int) -> DataLoader[Batch | UserError]:
    """Batches as `config.training` wants them; what is pasted is taken from the same split. An error is to be raised by
    whoever takes it: see TrainingSet."""
    settings = config.training
    if config.segmentation.grid.grid() != SEGMENTATION_GRID:
        raise UserError("segmentation.grid: map masks are drawn on {extent: 50.0, cell: 0.5} alone; write that")
    if workers < 0:
        raise UserError(f"--workers {workers}: must be at least 0")
    paster = None
    if settings.paste is not None:
        database = PointDatabase.of(index, config.sweeps, max(workers, 1))
        paster = ObjectPaster(database, settings.paste, settings.epochs)
    samples = TrainingSet(index, config.sweeps, settings.augment, settings.seed, config.images, paster)
    sampler = (ClassBalancedSampler(index, settings.seed) if settings.class_balanced
               else EpochSampler(len(index), settings.seed))
    return DataLoader(samples, settings.batch_size, sampler=sampler, collate_fn=partial(collate, images=config.images),
                      num_workers=workers, drop_last=True, persistent_workers=workers > 0,
                      worker_init_fn=_in_worker)


def _in_worker(_: int) -> None:
    set_up_process()

"""Load frames of a prepared dataset, with ground truth as Samples, and augmented for training."""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import Dataset, get_worker_info

from vexkd_model.config import ModelConfig
from vexkd_model.config.camera import ImageConfig
from vexkd_model.config.training import AugmentConfig, SensorVarietyConfig
from vexkd_model.data.augment import BevAugmentation
from vexkd_model.data.batch import Sample
from vexkd_model.data.image_augment import ImageAugmentation
from vexkd_model.data.image_files import load_view
from vexkd_model.data.index import FrameIndex, FrameRecord
from vexkd_model.data.missing_sensor import with_dropout
from vexkd_model.data.paste import ObjectPaster
from vexkd_model.data.sampling import Draw
from vexkd_model.data.sensor_variety import varied
from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import inverse
from vexkd_model.types import CAMERAS, MAP_CLASSES, SEGMENTATION_GRID, Boxes, CameraImage, Frame, PastFrame


def load_frame(index: FrameIndex, i: int, config: ModelConfig) -> Frame:
    """Load frame i for inference."""
    return _load_plain(index, i, config, config.sweeps)


def load_sample(index: FrameIndex, i: int, config: ModelConfig) -> Sample:
    """Load frame i for training, without augmentation, and its ground truth."""
    return with_ground_truth(_load_plain(index, i, config, config.training_sweeps), index, i)


def _load_plain(index: FrameIndex, i: int, config: ModelConfig, sweeps: int) -> Frame:
    camera = config.camera
    past = index.before(i, camera.past_frames) if camera else ()
    return read_frame(index[i], sweeps, camera and camera.images, past, sweep_interval=config.sweep_interval)


def read_frame(
    record: FrameRecord,
    sweeps: int,
    images: ImageConfig | None = None,
    past: Sequence[FrameRecord] = (),
    augmentations: Mapping[str, ImageAugmentation] | None = None,
    sweep_interval: float | None = None,
) -> Frame:
    """Read a keyframe's sensor files.

    Reads its sweep and up to `sweeps` − 1 before it, `sweep_interval` seconds apart (see `spaced`), ego motion
    compensated, and the images of `images.cameras` of this keyframe and of those before it in `past`. Without `sweeps`
    or `images` those files are not read.
    """
    moments: list[list[Callable[[], CameraImage]]] = [
        [
            partial(load_view, camera, images, augmentations[camera.name] if augmentations else None)
            for camera in moment.cameras
            if camera.name in images.cameras
        ]
        if images
        else []
        for moment in (record, *past)
    ]
    points, *loaded = _side_by_side(
        [partial(record.load_points, sweeps, sweep_interval), *(load for loads in moments for load in loads)]
    )
    views = iter(loaded)
    now, *then = [tuple(itertools.islice(views, len(loads))) for loads in moments]
    base_from_odom = inverse(record.global_from_base)
    return Frame(
        points,
        record.stamp_ns,
        record.token,
        now,
        tuple(
            PastFrame(cameras, base_from_odom @ moment.global_from_base)
            for cameras, moment in zip(then, past, strict=True)
        ),
    )


def _side_by_side(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run tasks that read files, in threads where this process has cores left; results in the order of the tasks."""
    # A DataLoader's workers share the cores already.
    threads = 1 if get_worker_info() else min(len(tasks), len(os.sched_getaffinity(0)))
    if threads == 1:
        return [task() for task in tasks]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda task: task(), tasks))


def with_ground_truth(frame: Frame, index: FrameIndex, i: int) -> Sample:
    """Add the seen boxes and the map masks of frame i of the index to its sensor data."""
    masks = index.map_mask(i)
    known = np.full(SEGMENTATION_GRID.shape, masks is not None)
    if masks is None:
        masks = np.zeros((len(MAP_CLASSES), *SEGMENTATION_GRID.shape), bool)
    return Sample(frame, index[i].seen_boxes, masks, known)


class ValidationSet(Dataset[Sample | UserError]):
    """Dataset of these frames of an index, as a model reads them for inference, with their ground truth."""

    def __init__(self, index: FrameIndex, frames: Sequence[int], config: ModelConfig) -> None:
        self.index, self.frames, self.config = index, frames, config

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> Sample | UserError:
        """Return a sample, or the error of a file that cannot be read, as TrainingSet does."""
        i = self.frames[number]
        try:
            return with_ground_truth(load_frame(self.index, i, self.config), self.index, i)
        except UserError as error:
            return error


def without_ground_truth(frame: Frame) -> Sample:
    """Sample of a frame of which no annotation is known."""
    boxes = Boxes(np.empty((0, 9), np.float32), np.empty(0, np.int64))
    masks = np.zeros((len(MAP_CLASSES), *SEGMENTATION_GRID.shape), bool)
    return Sample(frame, boxes, masks, np.zeros(SEGMENTATION_GRID.shape, bool), labelled=False)


class TrainingSet(Dataset[Sample | UserError]):
    """Dataset of augmented samples.

    Its key is a Draw, (epoch, frame[, repeat]); an item's random numbers depend on the key and the seed alone, so that
    the same seed gives the same batches for any number of workers. epochs: of the whole training, for augmentation that
    ends before it. labelled: False leaves out all annotations, if there are any.
    """

    def __init__(
        self,
        index: FrameIndex,
        sweeps: int,
        augment: AugmentConfig,
        seed: int,
        images: ImageConfig | None = None,
        past_frames: int = 0,
        paster: ObjectPaster | None = None,
        sensor_dropout: float = 0.0,
        sweep_interval: float | None = None,
        epochs: int | None = None,
        variety: SensorVarietyConfig | None = None,
        labelled: bool = True,
        intensity_max: float = 255.0,
    ) -> None:
        self.intensity_max = intensity_max
        self.labelled = labelled
        self.index, self.sweeps, self.augment, self.seed = index, sweeps, augment, seed
        self.images, self.past_frames, self.paster = images, past_frames, paster
        self.sensor_dropout, self.sweep_interval, self.variety = sensor_dropout, sweep_interval, variety
        self.augmented_epochs = np.inf if epochs is None else epochs - augment.off_for_last_epochs

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Draw | tuple[int, int]) -> Sample | UserError:
        """Return a sample, or the error of a file that cannot be read.

        `collate` passes it on: raised in a worker process it would reach the user as a page of traceback.
        """
        try:
            return self._sample(Draw(*key))
        except UserError as error:
            return error

    def _sample(self, draw: Draw) -> Sample:
        # Streams of their own: whether objects are pasted does not change how images are cropped.
        for_bev, for_images, for_objects, for_dropout, for_variety = np.random.default_rng((self.seed, *draw)).spawn(5)
        record = self.index[draw.frame]
        frame = read_frame(
            record,
            self.sweeps,
            self.images,
            self.index.before(draw.frame, self.past_frames),
            self._image_augmentations(for_images),
            self.sweep_interval,
        )
        sample = with_ground_truth(frame, self.index, draw.frame) if self.labelled else without_ground_truth(frame)
        if self.paster is not None and draw.epoch < self.paster.until_epoch:
            sample = _pasted(sample, self.paster, for_objects)
        frame = with_dropout(sample.frame, self.sensor_dropout, for_dropout)
        if self.variety is not None:
            frame = varied(
                frame, self.variety, record.sweeps[0].base_from_sensor[:3, 3], for_variety, self.intensity_max
            )
        sample = replace(sample, frame=frame)
        if draw.epoch >= self.augmented_epochs:
            return sample
        sizes = self.augment.model_dump(exclude={"off_for_last_epochs"})
        return _augmented(sample, BevAugmentation.draw(for_bev, **sizes))

    def _image_augmentations(self, rng: np.random.Generator) -> dict[str, ImageAugmentation] | None:
        """Draw each camera's augmentation from a stream of its own: one that is absent does not change the others."""
        if self.images is None:
            return None
        return {
            name: ImageAugmentation.draw(stream, self.images.augment)
            for name, stream in zip(CAMERAS, rng.spawn(len(CAMERAS)), strict=True)
        }


def _pasted(sample: Sample, paster: ObjectPaster, rng: np.random.Generator) -> Sample:
    points, boxes = paster.paste(sample.frame.points, sample.boxes, rng)
    return replace(sample, frame=replace(sample.frame, points=points), boxes=boxes)


def _augmented(sample: Sample, augmentation: BevAugmentation) -> Sample:
    masks, covered = augmentation.masks(sample.map_masks, SEGMENTATION_GRID)
    frame = replace(
        sample.frame,
        points=augmentation.points(sample.frame.points),
        cameras=tuple(map(augmentation.camera, sample.frame.cameras)),
        past=tuple(map(augmentation.past, sample.frame.past)),
    )
    boxes, known = augmentation.boxes(sample.boxes), covered & sample.map_known.any()
    return Sample(frame, boxes, masks, known, sample.labelled)

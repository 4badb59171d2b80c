"""Loaders of training batches and of validation frames, with processes of their own."""

from functools import partial

import numpy as np
import torch

from vexkd_model.config import ModelConfig
from vexkd_model.config.training import TrainingConfig, ValidationConfig
from vexkd_model.data.batch import collate_for
from vexkd_model.data.dataset import TrainingSet, ValidationSet
from vexkd_model.data.distillation_dataset import DistillationDataset, MixedDataset, collate_pairs
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.paste import ObjectPaster
from vexkd_model.data.point_database import PointDatabase
from vexkd_model.data.sampling import ClassBalancedSampler, EpochSampler, ShardSampler
from vexkd_model.data.worker_loader import WorkerLoader
from vexkd_model.distributed import ALONE, Shard
from vexkd_model.errors import UserError
from vexkd_model.process import set_up_process


def training_set(
    config: ModelConfig,
    index: FrameIndex,
    settings: TrainingConfig,
    paster: ObjectPaster | None = None,
    labelled: bool = True,
) -> TrainingSet:
    """Make the training set of a model. settings: of its augmentation; a teacher has those of its student."""
    camera = config.camera
    images, past_frames = (camera.images, camera.past_frames) if camera else (None, 0)
    return TrainingSet(
        index,
        config.training_sweeps,
        settings.augment,
        settings.seed,
        images,
        past_frames,
        paster if labelled else None,
        settings.sensor_dropout,
        config.sweep_interval,
        settings.epochs,
        settings.sensor_variety,
        labelled,
        config.lidar.intensity_max if config.lidar else 255.0,
    )


def training_loader(
    config: ModelConfig,
    index: FrameIndex,
    workers: int,
    shard: Shard = ALONE,
    teacher: ModelConfig | None = None,
    unlabelled: FrameIndex | None = None,
) -> WorkerLoader:
    """Build the training loader of one process.

    What is pasted is taken from the same split. Whoever takes a Batch raises it if it is a UserError instead: see
    TrainingSet and WorkerLoader.
    teacher: its sensors are read, too, into Batch.teacher. unlabelled: frames whose annotations are not looked at,
    beside those of `index`; where it is `index` itself, there are no others.
    """
    settings = config.training
    if workers < 0:
        raise UserError(f"--workers {workers}: must be at least 0")
    if unlabelled is not None and settings.class_balanced:
        raise UserError("training.class_balanced: draws frames by their boxes; set it to false with --unlabelled")
    paster = None
    if settings.paste is not None and unlabelled is not index:
        database = PointDatabase.of(index, config.sweeps, max(workers, 1), config.sweep_interval)
        paster = ObjectPaster(database, settings.paste, settings.epochs)

    def samples_of(source: FrameIndex, labelled: bool) -> TrainingSet | DistillationDataset:
        samples = training_set(config, source, settings, paster, labelled)
        if teacher is None:
            return samples
        # The teacher looks through good sensors: what it says of the same moment is what the student is to say.
        seen_by_teacher = settings.model_copy(update={"sensor_variety": None})
        return DistillationDataset(samples, training_set(teacher, source, seen_by_teacher, paster, labelled))

    samples = samples_of(index, labelled=unlabelled is not index)
    if unlabelled is not None and unlabelled is not index:
        samples = MixedDataset(samples, samples_of(unlabelled, labelled=False))
    together = collate_for(config)
    if teacher is not None:
        together = partial(collate_pairs, student=together, teacher=collate_for(teacher))
    sampler = (
        ClassBalancedSampler(index, settings.seed)
        if settings.class_balanced
        else EpochSampler(len(samples), settings.seed)
    )
    return WorkerLoader(
        samples,
        settings.batch_size,
        workers,
        together,
        sampler=ShardSampler(sampler, shard),
        drop_last=True,
        worker_init_fn=_in_worker,
    )


def validation_loader(
    config: ModelConfig, settings: ValidationConfig, index: FrameIndex, workers: int, shard: Shard = ALONE
) -> WorkerLoader:
    """Build the loader of one process' share of the frames to validate on, one a batch; UserErrors as above.

    Every process has equally many, because they wait for one another.
    """
    count = min(settings.frames, len(index))
    count -= count % shard.processes
    if not count:
        raise UserError(f"{index.folder}: {len(index)} frames, fewer than processes; set training.validation=null")
    frames = np.linspace(0, len(index) - 1, count).round().astype(int)[shard.rank :: shard.processes]
    return WorkerLoader(
        ValidationSet(index, frames.tolist(), config),
        1,
        min(workers, 1),
        collate_for(config),
        worker_init_fn=_in_worker,
        generator=torch.Generator().manual_seed(0),  # leaves the training's random state as it is
    )


def _in_worker(_: int) -> None:
    set_up_process()

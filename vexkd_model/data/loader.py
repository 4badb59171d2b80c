"""Loader of training batches, with processes of its own."""

from functools import partial

from vexkd_model.config import ModelConfig
from vexkd_model.config.training import TrainingConfig
from vexkd_model.data.batch import collate_for
from vexkd_model.data.dataset import TrainingSet
from vexkd_model.data.distillation_dataset import DistillationDataset, collate_pairs
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.paste import ObjectPaster
from vexkd_model.data.point_database import PointDatabase
from vexkd_model.data.sampling import ClassBalancedSampler, EpochSampler, ShardSampler
from vexkd_model.data.worker_loader import WorkerLoader
from vexkd_model.distributed import ALONE, Shard
from vexkd_model.errors import UserError
from vexkd_model.process import set_up_process


def training_set(
    config: ModelConfig, index: FrameIndex, settings: TrainingConfig, paster: ObjectPaster | None = None
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
        paster,
        settings.sensor_dropout,
        config.sweep_interval,
        settings.epochs,
        settings.sensor_variety,
    )


def training_loader(
    config: ModelConfig, index: FrameIndex, workers: int, shard: Shard = ALONE, teacher: ModelConfig | None = None
) -> WorkerLoader:
    """Build the training loader of one process.

    What is pasted is taken from the same split. Whoever takes a Batch raises it if it is a UserError instead: see
    TrainingSet and WorkerLoader.
    teacher: its sensors are read, too, into Batch.teacher.
    """
    settings = config.training
    if workers < 0:
        raise UserError(f"--workers {workers}: must be at least 0")
    paster = None
    if settings.paste is not None:
        database = PointDatabase.of(index, config.sweeps, max(workers, 1), config.sweep_interval)
        paster = ObjectPaster(database, settings.paste, settings.epochs)
    samples, together = training_set(config, index, settings, paster), collate_for(config)
    if teacher is not None:
        # The teacher looks through good sensors: what it says of the same moment is what the student is to say.
        seen_by_teacher = settings.model_copy(update={"sensor_variety": None})
        samples = DistillationDataset(samples, training_set(teacher, index, seen_by_teacher, paster))
        together = partial(collate_pairs, student=together, teacher=collate_for(teacher))
    sampler = (
        ClassBalancedSampler(index, settings.seed)
        if settings.class_balanced
        else EpochSampler(len(index), settings.seed)
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


def _in_worker(_: int) -> None:
    set_up_process()

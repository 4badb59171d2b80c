"""A training of any kind in a run folder: its processes, data, checkpoints, logs and end."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, Timer, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from vexkd_model.config import ModelConfig
from vexkd_model.config.training import TrainingConfig
from vexkd_model.data.batch import Batch
from vexkd_model.data.index import FrameIndex
from vexkd_model.distributed import Shard
from vexkd_model.errors import UserError
from vexkd_model.training.log_progress import LogProgress
from vexkd_model.training.pictures import Pictures
from vexkd_model.training.processes import trainer_arguments
from vexkd_model.training.run import LAST_CHECKPOINT, claim_run_folder, read_checkpoint
from vexkd_model.training.step_seed import StepSeed

LOG_EVERY_STEPS = 10


def fit(config: ModelConfig, index: FrameIndex, run: Path, build: Callable[[int, bool], lightning.LightningModule],
        load: Callable[[Shard], DataLoader[Batch | UserError]], resume: bool, interactive: bool, devices: int = 1,
        nodes: int = 1, callbacks: Sequence[lightning.Callback] = (), idle_parameters: bool = False,
        record: Mapping[str, Any] | None = None) -> bool:
    """Train to the end of the schedule; a checkpoint follows every epoch, from which `resume` goes on.

    build: makes the module, whose `pictures` are logged, of the number of optimiser steps and of whether the training
    begins with it; one that goes on gets its weights from the checkpoint. load: makes the batches of one process.
    interactive: show a bar instead of plain lines. devices, nodes: processes on each machine, and machines; started
    here, on each machine by the same command, or by torchrun. idle_parameters: some that learn have no gradient in
    some steps. record: what the run's record says beside the usual, and what a resumed training must agree with.
    Returns whether this is the first process, which speaks for all of them.
    """
    trainer = _trainer(config.training, run, interactive, trainer_arguments(devices, nodes, idle_parameters), callbacks)
    if trainer.is_global_zero:
        claim_run_folder(run, config, index, resume, {**(record or {}), "processes": trainer.world_size})
    lightning.seed_everything(config.training.seed, workers=True, verbose=False)
    loader = load(Shard(trainer.global_rank, trainer.world_size))
    if not len(loader):
        raise UserError(f"{index.folder}: {len(index)} frames do not fill one batch of "
                        f"{config.training.batch_size * trainer.world_size}; lower training.batch_size")
    checkpoint = run / LAST_CHECKPOINT
    going_on = resume and checkpoint.is_file()
    if going_on:  # Lightning lets the loader's workers begin before it tells the sampler which epoch it is
        loader.sampler.set_epoch(read_checkpoint(run)["epoch"] + 1)
    module = build(config.training.epochs * -(-len(loader) // config.training.accumulate), not going_on)
    try:
        trainer.fit(module, loader, ckpt_path=str(checkpoint) if going_on else None, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        _end(trainer, UserError(f"{run}: interrupted; go on with the same command and --resume"))
    except UserError as error:
        _end(trainer, error)
    return trainer.is_global_zero


def _trainer(settings: TrainingConfig, run: Path, interactive: bool, processes: dict[str, Any],
             callbacks: Sequence[lightning.Callback]) -> lightning.Trainer:
    table = CSVLogger(run, name="log", flush_logs_every_n_steps=1)  # a killed run keeps its curve
    return lightning.Trainer(
        max_epochs=settings.epochs, precision=settings.precision, gradient_clip_val=settings.gradient_clip,
        accumulate_grad_batches=settings.accumulate, **processes, default_root_dir=run,
        logger=[table, TensorBoardLogger(run, table.name, table.version, default_hp_metric=False)],
        log_every_n_steps=LOG_EVERY_STEPS,
        callbacks=[
            # save_last with save_top_k=0 would write nothing before the very end.
            ModelCheckpoint((run / LAST_CHECKPOINT).parent, filename=LAST_CHECKPOINT.stem,
                            enable_version_counter=False),
            LearningRateMonitor("step"),
            Timer(),  # no limit: its state in the checkpoint is how long the training took, over all resumptions
            TQDMProgressBar() if interactive else LogProgress(),
            StepSeed(settings.seed),
            Pictures(),
            *([EMAWeightAveraging(decay=settings.ema)] if settings.ema else []),
            *callbacks,
        ],
        enable_progress_bar=interactive, enable_model_summary=False, num_sanity_val_steps=0)


def _end(trainer: lightning.Trainer, error: UserError) -> None:
    """The first process reports what stopped all of them; the others end well, so that nobody reports them, too."""
    if trainer.is_global_zero:
        raise error from None
    sys.exit(0)

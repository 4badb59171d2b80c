"""Fit a module in a run folder: trainer, start or resumption, checkpoints, logs and end."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from vexkd_model.config import ModelConfig
from vexkd_model.config.training import TrainingConfig
from vexkd_model.data.index import FrameIndex
from vexkd_model.distributed import Shard, broadcast_error, leave_group
from vexkd_model.errors import Interrupted, UserError
from vexkd_model.files import full_disk_named
from vexkd_model.machine import device_text, in_bfloat16
from vexkd_model.training.checkpoint_file import CheckpointFile
from vexkd_model.training.claim_run import claimed_run
from vexkd_model.training.data_module import TrainingDataModule
from vexkd_model.training.log_progress import LogProgress
from vexkd_model.training.module import TrainingModule
from vexkd_model.training.pictures import Pictures
from vexkd_model.training.run import BEST_CHECKPOINT, LAST_CHECKPOINT, read_checkpoint
from vexkd_model.training.slurm import SrunEnvironment
from vexkd_model.training.validation import SCORE

LOG_EVERY_STEPS = 10


class Start(NamedTuple):
    """Start of a process: its shard of the data, the first epoch, and the checkpoint to resume from, if any."""

    shard: Shard
    epoch: int
    checkpoint: Path | None


def build_trainer(
    settings: TrainingConfig, run: Path, interactive: bool, processes: Mapping[str, Any]
) -> lightning.Trainer:
    """Build the trainer, with a checkpoint after each epoch.

    interactive: show a line that changes instead of plain ones. processes: of `trainer_arguments`, whose kind of device
    decides what settings.precision means.
    """
    device = torch.device("cuda" if processes["accelerator"] == "gpu" else "cpu")
    arguments = {**processes, "plugins": [CheckpointFile(), *processes.get("plugins", ())]}
    validation = settings.validation
    arguments |= {"check_val_every_n_epoch": validation.every} if validation else {"limit_val_batches": 0}
    table = CSVLogger(run, name="log", flush_logs_every_n_steps=1)  # a killed run keeps its curve
    return lightning.Trainer(
        max_epochs=settings.epochs,
        precision="bf16-mixed" if in_bfloat16(settings.precision, device) else "32-true",
        gradient_clip_val=settings.gradient_clip,
        accumulate_grad_batches=settings.accumulate,
        **arguments,
        default_root_dir=run,
        logger=[table, TensorBoardLogger(run, table.name, table.version, default_hp_metric=False)],
        log_every_n_steps=LOG_EVERY_STEPS,
        callbacks=[
            # save_last with save_top_k=0 would write nothing before the very end.
            ModelCheckpoint(
                (run / LAST_CHECKPOINT).parent,
                filename=LAST_CHECKPOINT.stem,
                enable_version_counter=False,
                save_on_train_epoch_end=True,
            ),
            LearningRateMonitor("step"),
            Timer(),  # no limit: its state in the checkpoint is how long the training took, over all resumptions
            LogProgress(interactive),
            Pictures(),
            *([EMAWeightAveraging(decay=settings.ema)] if settings.ema else []),
            *([_best_checkpoint(run)] if validation else []),
        ],
        inference_mode=False,  # of validation: what a layer keeps from it serves training, too
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _best_checkpoint(run: Path) -> ModelCheckpoint:
    """Keep the checkpoint of the best validation."""
    return ModelCheckpoint(
        (run / BEST_CHECKPOINT).parent,
        filename=BEST_CHECKPOINT.stem,
        monitor=SCORE,
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )


@contextmanager
def started_run(
    trainer: lightning.Trainer,
    config: ModelConfig,
    index: FrameIndex,
    resume: bool,
    record: Mapping[str, Any] | None = None,
) -> Iterator[Start]:
    """Hold the trainer's run folder, and seed what is drawn from here on, such as the weights of a model.

    record: further entries of the run's record, with which a resumed training must agree. UserError as of
    `claimed_run`.
    """
    run = Path(trainer.default_root_dir)
    entries = {**(record or {}), "processes": trainer.world_size, "precision": trainer.precision}
    with ExitStack() as held:
        _on_rank_0(trainer, lambda: held.enter_context(claimed_run(run, config, index, resume, entries)))
        lightning.seed_everything(config.training.seed, workers=True, verbose=False)
        shard = Shard(trainer.global_rank, trainer.world_size)
        if resume and (run / LAST_CHECKPOINT).is_file():
            yield Start(shard, read_checkpoint(run)["epoch"] + 1, run / LAST_CHECKPOINT)
        else:
            yield Start(shard, 0, None)


def _on_rank_0(trainer: lightning.Trainer, function: Callable[[], None]) -> None:
    """Call a function on rank 0, before the training; where it raises UserError, end all ranks."""
    error = None
    if trainer.is_global_zero:
        try:
            function()
        except UserError as raised:
            error = raised
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.cluster_environment, SrunEnvironment):
        # Lightning starts its other processes only later, and torchrun ends them with rank 0; srun's would wait for it.
        strategy.setup_environment()
        error = broadcast_error(error, strategy.root_device)
    if error is not None:
        _end(trainer, error)


def fit(trainer: lightning.Trainer, module: TrainingModule, data: TrainingDataModule, checkpoint: Path | None) -> bool:
    """Train to the end of the schedule, from a checkpoint if one is given; return whether this is rank 0.

    UserError, on rank 0 alone, for what stopped the training.
    """
    if trainer.is_global_zero:
        number = f"{trainer.world_size} processes" if trainer.world_size > 1 else "one process"
        device = device_text(trainer.strategy.root_device)
        print(f"{trainer.default_root_dir}: on {device}, {trainer.precision}, {number}", file=sys.stderr, flush=True)
    try:
        with full_disk_named(Path(trainer.default_root_dir)):  # of the log
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint and str(checkpoint), weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        _end(trainer, Interrupted(f"{trainer.default_root_dir}: interrupted; go on with the same command and --resume"))
    except UserError as error:
        _end(trainer, error)
    leave_group()
    return trainer.is_global_zero


def _end(trainer: lightning.Trainer, error: UserError) -> None:
    """Raise the error on rank 0; end the other ranks without one, so that it is reported once."""
    leave_group()
    if trainer.is_global_zero:
        raise error from None
    sys.exit(0)

"""`vexkd train`: a run folder with its configuration, checkpoints and loss curve."""

import logging
import warnings
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from vexkd_model.config import ModelConfig
from vexkd_model.data.dataset import training_loader
from vexkd_model.data.index import FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.training.log_progress import LogProgress
from vexkd_model.training.run import LAST_CHECKPOINT, claim_run_folder
from vexkd_model.training.student_module import StudentModule


def train(config: ModelConfig, index: FrameIndex, run: Path, workers: int, resume: bool, interactive: bool) -> None:
    """Train to the end of the schedule; a checkpoint follows every epoch, from which `resume` goes on.

    interactive: show a bar instead of plain lines.
    """
    claim_run_folder(run, config, index, resume)
    checkpoint = run / LAST_CHECKPOINT
    settings = config.training
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    loader = training_loader(config, index, workers)
    if not len(loader):
        raise UserError(f"{index.folder}: {len(index)} frames do not fill one batch of {settings.batch_size}; "
                        "lower training.batch_size")
    trainer = lightning.Trainer(
        max_epochs=settings.epochs, precision=settings.precision, gradient_clip_val=settings.gradient_clip,
        accelerator="auto", devices=1, logger=CSVLogger(run, name="log"), log_every_n_steps=10,
        callbacks=[
            # save_last with save_top_k=0 would write nothing before the very end.
            ModelCheckpoint(checkpoint.parent, filename=checkpoint.stem, enable_version_counter=False),
            LearningRateMonitor("step"),
            TQDMProgressBar() if interactive else LogProgress(),
        ],
        enable_progress_bar=interactive, enable_model_summary=False, num_sanity_val_steps=0)
    module = StudentModule(config, settings.epochs * len(loader))
    try:
        trainer.fit(module, loader, ckpt_path=str(checkpoint) if resume and checkpoint.is_file() else None,
                    weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise UserError(f"{run}: interrupted; go on with the same command and --resume") from None


def quiet_lightning() -> None:
    """Advice for experts of Lightning, and its advertisements, are noise to a user of this tool."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*`isinstance.treespec.*", ".*lr_scheduler.step.*",
                    ".*Checkpoint directory.*exists.*", ".*tensorboardX.*", ".*smaller than the logging interval.*"):
        warnings.filterwarnings("ignore", message)

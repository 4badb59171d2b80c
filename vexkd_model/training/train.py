"""`vexkd train`: a run folder with its configuration, checkpoints and loss curve."""

import logging
import warnings
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from vexkd_model.camera.build import load_pretrained
from vexkd_model.config import ModelConfig
from vexkd_model.data.dataset import training_loader
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.package import load_package
from vexkd_model.errors import UserError
from vexkd_model.model import BevModel
from vexkd_model.training.log_progress import LogProgress
from vexkd_model.training.module import ModelModule
from vexkd_model.training.run import LAST_CHECKPOINT, claim_run_folder


def train(config: ModelConfig, index: FrameIndex, run: Path, workers: int, resume: bool, interactive: bool,
          weights: Path | None = None) -> None:
    """Train to the end of the schedule; a checkpoint follows every epoch, from which `resume` goes on.

    interactive: show a bar instead of plain lines. weights: a package of the same model, to begin with its weights.
    """
    begin_with = load_package(weights)[0].state_dict() if weights else None
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
    module = ModelModule(config, settings.epochs * len(loader))
    going_on = resume and checkpoint.is_file()
    if not going_on:
        _begin(module.model, config, begin_with, weights)
    try:
        trainer.fit(module, loader, ckpt_path=str(checkpoint) if going_on else None,
                    weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise UserError(f"{run}: interrupted; go on with the same command and --resume") from None


def _begin(model: BevModel, config: ModelConfig, begin_with: dict | None, weights: Path | None) -> None:
    """The weights of a package, or a pretrained image backbone where the configuration names one."""
    if begin_with is not None:
        try:
            model.load_state_dict(begin_with)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise UserError(f"--weights {weights}: of another model than {config.name} ({first})") from None
    elif config.camera is not None:
        load_pretrained(model.camera, config.camera)


def quiet_lightning() -> None:
    """Advice for experts of Lightning, and its advertisements, are noise to a user of this tool."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*`isinstance.treespec.*", ".*lr_scheduler.step.*",
                    ".*Checkpoint directory.*exists.*", ".*tensorboardX.*", ".*smaller than the logging interval.*"):
        warnings.filterwarnings("ignore", message)

"""`vexkd train`: train a teacher or a plain student on its tasks."""

import logging
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from vexkd_model.camera.build import load_pretrained
from vexkd_model.config import ModelConfig
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.requirements import check_trainable
from vexkd_model.deploy.card import CONFIG
from vexkd_model.deploy.package import load_package
from vexkd_model.errors import UserError
from vexkd_model.model import BevModel, build_model
from vexkd_model.training.data_module import TrainingDataModule
from vexkd_model.training.fit import build_trainer, fit, started_run
from vexkd_model.training.module import TrainingModule
from vexkd_model.training.processes import trainer_arguments
from vexkd_model.training.run import INITIAL_WEIGHTS, describe_initial_weights


def train(
    config: ModelConfig,
    index: FrameIndex,
    run: Path,
    workers: int,
    resume: bool,
    interactive: bool,
    weights: Path | None = None,
    devices: int = 1,
    nodes: int = 1,
    device: str = "auto",
) -> bool:
    """Train a model on its tasks in a run folder; return whether this is rank 0, which reports for all processes.

    weights: a package of the same model, whose weights to start with. resume: go on from the run's last checkpoint.
    interactive: show a line that changes instead of plain ones. devices, nodes, device: processes on each machine,
    machines, and where they compute; see `trainer_arguments`. UserError for what cannot be trained, and for what
    stopped it.
    """
    check_trainable(config, index)
    config = config.model_copy(update={"distillation": None})
    initial, record = _initial_weights(weights, config) if weights else (None, {})
    processes = trainer_arguments(devices, nodes, idle_parameters=False, device=device)
    trainer = build_trainer(config.training, run, interactive, processes)
    with started_run(trainer, config, index, resume, record) as start:
        data = TrainingDataModule(config, index, workers, start.shard, start.epoch)
        model = build_model(config)
        if start.checkpoint is None:
            initialise_weights(model, config, initial, weights)
        return fit(trainer, TrainingModule(config, model, data.total_steps), data, start.checkpoint)


def _initial_weights(weights: Path, config: ModelConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the weights of a package, and what the run's record says of them.

    UserError if they know another frame than the configuration's.
    """
    model, known, card = load_package(weights)
    if known.frame != config.frame:
        raise UserError(
            f"--weights {weights}: frame: differs from that of {config.name}, and these weights know no other; train "
            f"with {weights / CONFIG} as the configuration, or copy its frame"
        )
    return model.state_dict(), {INITIAL_WEIGHTS: describe_initial_weights(weights, card)}


def initialise_weights(
    model: BevModel, config: ModelConfig, initial: dict[str, Tensor] | None = None, weights: Path | None = None
) -> None:
    """Load the weights of a package, `initial` of `weights`, or a pretrained image backbone if configured.

    UserError if they are of another model.
    """
    if initial is not None:
        try:
            model.load_state_dict(initial)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise UserError(f"--weights {weights}: of another model than {config.name} ({first})") from None
    elif config.camera is not None and model.camera is not None:
        load_pretrained(model.camera, config.camera)


def quiet_lightning() -> None:
    """Silence Lightning's advice for experts and its advertisements."""
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*`isinstance.treespec.*",
        ".*lr_scheduler.step.*",
        ".*Checkpoint directory.*exists.*",
        ".*smaller than the logging interval.*",
        ".*`srun` command is available.*",
        ".*`val_dataloader` returned.*0 length.*",
    ):
        warnings.filterwarnings("ignore", message)

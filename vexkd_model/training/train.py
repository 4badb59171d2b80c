"""`vexkd train`: a teacher or a plain student learns its tasks."""

import logging
import warnings
from functools import partial
from pathlib import Path

from vexkd_model.camera.build import load_pretrained
from vexkd_model.config import ModelConfig
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.loader import training_loader
from vexkd_model.deploy.package import load_package
from vexkd_model.errors import UserError
from vexkd_model.model import BevModel
from vexkd_model.training.fit import fit
from vexkd_model.training.module import ModelModule


def train(config: ModelConfig, index: FrameIndex, run: Path, workers: int, resume: bool, interactive: bool,
          weights: Path | None = None, devices: int = 1, nodes: int = 1) -> bool:
    """As `fit` says. weights: a package of the same model, to begin with its weights."""
    config = config.model_copy(update={"distillation": None})
    begin_with = load_package(weights)[0].state_dict() if weights else None

    def build(steps: int, begins: bool) -> ModelModule:
        module = ModelModule(config, steps)
        if begins:
            begin(module.model, config, begin_with, weights)
        return module

    return fit(config, index, run, build, partial(training_loader, config, index, workers), resume, interactive,
               devices, nodes)


def begin(model: BevModel, config: ModelConfig, begin_with: dict | None = None, weights: Path | None = None) -> None:
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
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*`isinstance.treespec.*", ".*lr_scheduler.step.*",
                    ".*Checkpoint directory.*exists.*", ".*smaller than the logging interval.*"):
        warnings.filterwarnings("ignore", message)

"""Lightning modules: a training step, optimiser and schedule of a model, on its tasks alone or with distillation."""

from typing import Any, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.criterion import build_criterion
from vexkd_model.data.batch import Batch
from vexkd_model.distill.distiller import Distiller
from vexkd_model.model import BevFeatures, BevModel, ModelOutput
from vexkd_model.training.pictures import cells_in_base_link, magnitude
from vexkd_model.training.schedule import optimiser_and_schedule
from vexkd_model.training.step import total_loss
from vexkd_model.training.validation import Validator


class TrainingModule(lightning.LightningModule):
    """Training of a model on its tasks.

    total_steps: optimiser steps of the whole training. pictures: float (Y, X) by name, see the callback Pictures.
    """

    def __init__(self, config: ModelConfig, model: BevModel, total_steps: int) -> None:
        super().__init__()
        self.config, self.settings, self.total_steps = config, config.training, total_steps
        self.model, self.criterion = model, build_criterion(config)
        self.pictures: dict[str, Tensor] = {}
        self.validator = Validator(config)

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Compute the scalar loss of batch `number` of the epoch, and draw the pictures of the first one."""
        output = self.model(batch.sensors)
        losses = self.losses(output, batch)
        if number == 0:
            pictures = self.draw_pictures(output.features)
            self.pictures = {name: cells_in_base_link(values, self.config) for name, values in pictures.items()}
        return total_loss(self, losses, batch)

    def on_validation_epoch_start(self) -> None:
        """Begin a validation."""
        self.validator.restart()

    def validation_step(self, batch: Batch, number: int) -> None:
        """Score the model's output for one frame."""
        self.validator.update(self.model(batch.sensors), batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of a validation."""
        self.log_dict(self.validator.result().logged(), rank_zero_only=False, sync_dist=False)

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Weighted scalar loss terms by name."""
        return self.criterion(output, batch, self.progress)

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        return self.global_step / self.total_steps

    def draw_pictures(self, features: BevFeatures) -> dict[str, Tensor]:
        """Magnitudes (Y, X) of the first sample's BEV maps by name, in the network's frame."""
        return {f"bev/{level}": magnitude(maps[0]) for level, maps in features._asdict().items()}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed PyTorch for this batch, so that a resumed training draws the dropout of one never interrupted.

        Each rank, which has other frames, draws numbers of its own.
        """
        mixed = np.random.SeedSequence((self.settings.seed, self.current_epoch, batch_idx, self.global_rank))
        torch.manual_seed(int(mixed.generate_state(1)[0]))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the length of this training's schedule, which may be longer than when the checkpoint was written."""
        for state in checkpoint["lr_schedulers"]:
            for length in ("total_steps", "_schedule_phases"):
                state.pop(length, None)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser and its schedule, which moves at every step."""
        camera = self.model.camera
        optimiser, schedule = optimiser_and_schedule(self.settings, self, camera and camera.backbone, self.total_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the model's gradient to training.gradient_clip."""
        torch.nn.utils.clip_grad_norm_(list(self.model.parameters()), self.settings.gradient_clip)


class DistillationModule(TrainingModule):
    """Training of a student on its tasks and by a distiller, whose masks and adapters are trained along with it."""

    def __init__(self, config: ModelConfig, student: BevModel, distiller: Distiller, total_steps: int) -> None:
        super().__init__(config, student, total_steps)
        self.distiller = distiller

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Weighted scalar loss terms by name, of the tasks and of the distiller."""
        return super().losses(output, batch) | self.distiller(output.features, batch, output, self.progress)

    def draw_pictures(self, features: BevFeatures) -> dict[str, Tensor]:
        """Magnitudes of a TrainingModule, and the first sample's masks, (Y, X) each."""
        masks = {f"mask/{level}": mask[0, 0] for level, mask in self.distiller.drawn.items()}
        return super().draw_pictures(features) | masks

    def on_fit_start(self) -> None:
        """Bring the teacher, which is no submodule, to the student's device."""
        self.distiller.teacher.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Freeze the masks from distillation.mask_stop_epoch on."""
        settings = self.distiller.config
        if settings.freezes_masks and self.current_epoch >= cast(int, settings.mask_stop_epoch):
            self.distiller.freeze_masks()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the student's gradient as if it were trained alone, and those of masks and adapters by themselves."""
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        torch.nn.utils.clip_grad_norm_(list(self.distiller.parameters()), self.settings.gradient_clip)

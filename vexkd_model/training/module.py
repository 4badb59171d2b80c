"""Training a model with Lightning: on its tasks alone, or taught by a teacher, too."""

from collections.abc import Callable

import lightning
import torch
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.criterion import task_losses
from vexkd_model.data.batch import Batch
from vexkd_model.distill.distiller import Distiller
from vexkd_model.distributed import agreed
from vexkd_model.errors import UserError
from vexkd_model.model import BevFeatures, BevModel, build_model
from vexkd_model.training.pictures import magnitude
from vexkd_model.training.schedule import optimiser_and_schedule
from vexkd_model.training.step import total_loss


class ModelModule(lightning.LightningModule):
    """The model with its criterion, optimiser and schedule; the configuration travels in the checkpoint.

    distill: makes what teaches this model beside its tasks. pictures: see the callback Pictures.
    """

    def __init__(self, config: ModelConfig, total_steps: int,
                 distill: Callable[[BevModel], Distiller] | None = None) -> None:
        super().__init__()
        self.config, self.total_steps = config, total_steps
        self.model = build_model(config)
        self.distiller = distill and distill(self.model)
        self.pictures: dict[str, Tensor] = {}

    def training_step(self, batch: Batch, number: int) -> Tensor:
        output = self.model(batch.sensors)
        losses = task_losses(self.config, output, batch, self.global_step / self.total_steps)
        if self.distiller is not None:
            losses |= self.distiller(output.features, batch, output)
        if number == 0:
            self.pictures = self._pictures(output.features)
        return total_loss(self, losses, batch)

    def _pictures(self, features: BevFeatures) -> dict[str, Tensor]:
        pictures = {f"bev/{level}": magnitude(maps[0]) for level, maps in features._asdict().items()}
        if self.distiller is not None:
            pictures |= {f"mask/{level}": mask[0, 0] for level, mask in self.distiller.drawn.items()}
        return pictures

    def configure_optimizers(self) -> dict:
        camera = self.model.camera
        optimiser, schedule = optimiser_and_schedule(self.config.training, self, camera and camera.backbone,
                                                     self.total_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None,
                                    gradient_clip_algorithm: str | None = None) -> None:
        """The student's gradient as if it were alone: those of masks and adapters do not count towards its length."""
        for part in filter(None, (self.model, self.distiller)):
            torch.nn.utils.clip_grad_norm_(list(part.parameters()), gradient_clip_val)

    def on_fit_start(self) -> None:
        if self.distiller is not None:
            self.distiller.teacher.to(self.device)

    def transfer_batch_to_device(self, batch: Batch | UserError, device: torch.device, _: int) -> Batch:
        return on_device(batch, device)


def on_device(batch: Batch | UserError, device: torch.device) -> Batch:
    """A batch where the model is. The error of a file that could not be read is raised in every process."""
    if error := agreed(batch if isinstance(batch, UserError) else None, device):
        raise error
    return batch.to(device)

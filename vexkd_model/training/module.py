"""Training a model on its tasks alone, with Lightning: teachers and plain students."""

import lightning
import torch
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import Batch
from vexkd_model.distributed import agreed
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.training.criterion import task_losses
from vexkd_model.training.pictures import magnitude
from vexkd_model.training.schedule import optimiser_and_schedule
from vexkd_model.training.step import total_loss


class ModelModule(lightning.LightningModule):
    """The model with its criterion, optimiser and schedule; the configuration travels in the checkpoint.

    pictures: see the callback Pictures.
    """

    def __init__(self, config: ModelConfig, total_steps: int) -> None:
        super().__init__()
        self.config, self.total_steps = config, total_steps
        self.model = build_model(config)
        self.pictures: dict[str, Tensor] = {}

    def training_step(self, batch: Batch, number: int) -> Tensor:
        output = self.model(batch.sensors)
        if number == 0:
            self.pictures = {f"bev/{level}": magnitude(maps[0]) for level, maps in output.features._asdict().items()}
        return total_loss(self, task_losses(self.config, output, batch), batch)

    def configure_optimizers(self) -> dict:
        camera = self.model.camera
        optimiser, schedule = optimiser_and_schedule(self.config.training, self.model, camera and camera.backbone,
                                                     self.total_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Batch | UserError, device: torch.device, _: int) -> Batch:
        return on_device(batch, device)


def on_device(batch: Batch | UserError, device: torch.device) -> Batch:
    """A batch where the model is. The error of a file that could not be read is raised in every process."""
    if error := agreed(batch if isinstance(batch, UserError) else None, device):
        raise error
    return batch.to(device)

"""Training a model on its tasks alone, with Lightning: teachers and plain students."""

import lightning
import torch
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import Batch
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.training.criterion import task_losses
from vexkd_model.training.schedule import optimiser_and_schedule


class ModelModule(lightning.LightningModule):
    """The model with its criterion, optimiser and schedule; the configuration travels in the checkpoint."""

    def __init__(self, config: ModelConfig, total_steps: int) -> None:
        super().__init__()
        self.config, self.total_steps = config, total_steps
        self.model = build_model(config)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        losses = task_losses(self.config, self.model(batch.sensors), batch)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise UserError(f"loss is {total.item()} at step {self.global_step} on samples {', '.join(batch.tokens)}; "
                            "lower training.learning_rate or set training.precision=32-true")
        self.log_dict({f"loss/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch))
        self.log("loss", total.detach(), prog_bar=True, batch_size=len(batch))
        return total

    def configure_optimizers(self) -> dict:
        camera = self.model.camera
        optimiser, schedule = optimiser_and_schedule(self.config.training, self.model, camera and camera.backbone,
                                                     self.total_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Batch | UserError, device: torch.device, _: int) -> Batch:
        if isinstance(batch, UserError):
            raise batch
        return batch.to(device)

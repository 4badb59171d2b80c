"""Training a plain student with Lightning."""

import lightning
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from vexkd_model.config import ModelConfig
from vexkd_model.data.dataset import Batch
from vexkd_model.errors import UserError
from vexkd_model.heads.center_loss import center_loss, center_targets
from vexkd_model.heads.segmentation import segmentation_loss
from vexkd_model.student import StudentOutput, build_student, class_ids_of_tasks


class StudentModule(lightning.LightningModule):
    """The student with its criterion, optimiser and schedule; the configuration travels in the checkpoint."""

    def __init__(self, config: ModelConfig, total_steps: int) -> None:
        super().__init__()
        self.config, self.total_steps = config, total_steps
        self.grid = config.grid.grid()
        self.class_ids = class_ids_of_tasks(config)
        self.student = build_student(config)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        output = self.student(batch.points, batch.sample, len(batch))
        losses = self.losses(output, batch)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise UserError(f"loss is {total.item()} at step {self.global_step} on samples {', '.join(batch.tokens)}; "
                            "lower training.learning_rate or set training.precision=32-true")
        self.log_dict({f"loss/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch))
        self.log("loss", total.detach(), prog_bar=True, batch_size=len(batch))
        return total

    def losses(self, output: StudentOutput, batch: Batch) -> dict[str, Tensor]:
        """Every weighted term of the loss by name; their sum is minimised."""
        terms: dict[str, Tensor] = {}
        for maps, class_ids in zip(output.detection, self.class_ids, strict=True):
            targets = center_targets(batch.boxes, batch.labels, class_ids, self.grid)
            for name, value in center_loss(maps, targets).items():
                terms[name] = terms.get(name, 0.0) + self.config.detection.loss_weight * value
        terms["segmentation"] = self.config.segmentation.loss_weight * segmentation_loss(
            output.segmentation, batch.map_masks, batch.map_known)
        return terms

    def configure_optimizers(self) -> dict:
        settings = self.config.training
        optimizer = torch.optim.AdamW(self.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = OneCycleLR(optimizer, settings.learning_rate, total_steps=self.total_steps, pct_start=0.3,
                              div_factor=10, final_div_factor=1e3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Batch | UserError, device: torch.device, _: int) -> Batch:
        if isinstance(batch, UserError):
            raise batch
        return batch.to(device)

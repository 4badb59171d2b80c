"""Total loss of a training step: sum and log its terms, and stop where they are not finite."""

import math
from pathlib import Path

import lightning
import torch
from torch import Tensor

from vexkd_model.data.batch import Batch
from vexkd_model.distributed import all_gather, mean_over_processes
from vexkd_model.errors import UserError
from vexkd_model.files import write_json

NAN_BATCH = "nan_batch.json"


def total_loss(module: lightning.LightningModule, losses: dict[str, Tensor], batch: Batch) -> Tensor:
    """Sum the losses to be minimised; log the sum and its terms, as means over all processes.

    A mean that is not finite stops every process: UserError names RUN/nan_batch.json, where the samples stand.
    """
    terms = torch.stack(list(losses.values()))
    means = mean_over_processes(terms)
    total = means.sum()
    if not torch.isfinite(total):
        raise _stopped(module, dict(zip(losses, means.tolist(), strict=True)), batch)
    module.log_dict({f"loss/{name}": value for name, value in zip(losses, means, strict=True)}, batch_size=len(batch))
    module.log("loss", total, prog_bar=True, batch_size=len(batch))
    return terms.sum()


def _stopped(module: lightning.LightningModule, losses: dict[str, float], batch: Batch) -> UserError:
    """Write the samples and losses of the batch to RUN/nan_batch.json, and return the error to raise."""
    tokens = [token for of_rank in all_gather(batch.tokens) for token in of_rank]
    path = Path(module.trainer.default_root_dir) / NAN_BATCH
    if module.trainer.is_global_zero:
        # JSON has no word for what is not finite.
        terms = {name: value if math.isfinite(value) else str(value) for name, value in losses.items()}
        where = {"step": module.global_step, "epoch": module.current_epoch}
        write_json(path, {**where, "tokens": tokens, "losses": terms})
    wrong = ", ".join(name for name, value in losses.items() if not math.isfinite(value)) or "sum"
    return UserError(
        f"{path}: loss ({wrong}) is not finite at step {module.global_step}, on the samples named there; "
        "lower training.learning_rate or set training.precision=float32"
    )

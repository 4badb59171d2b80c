"""TensorBoard pictures of the BEV maps of one frame, after each epoch's first step."""

import lightning
import matplotlib
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

COLOURS = matplotlib.colormaps["viridis"]


class Pictures(lightning.Callback):
    """Callback that logs `pictures` of the module, name → float (Y, X), set in the first step of each epoch."""

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, _: object, __: object,
                           batch_number: int) -> None:
        if batch_number:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for name, values in module.pictures.items():
                    logger.experiment.add_image(name, picture(values), trainer.global_step, dataformats="HWC")


def magnitude(features: Tensor) -> Tensor:
    """Norm float32 (Y, X) of each cell's features (C, Y, X)."""
    return torch.linalg.vector_norm(features.detach().float(), dim=0)


def picture(values: Tensor) -> np.ndarray:
    """RGB image uint8 (X, Y, 3) of values (Y, X) ≥ 0, dark at 0, bright at the maximum; forward is up, left is left."""
    values = values.detach().float().cpu().numpy().T[::-1, ::-1]
    colours = COLOURS(values / max(values.max(), np.finfo(np.float32).tiny))
    return (255 * colours[..., :3]).round().astype(np.uint8)

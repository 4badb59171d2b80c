"""TensorBoard pictures of the BEV maps of one frame, after each epoch's first step."""

from typing import cast

import lightning
import matplotlib
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional

from vexkd_model.config import ModelConfig
from vexkd_model.heads.segmentation import sampling_grid

COLOURS = matplotlib.colormaps["viridis"]


class Pictures(lightning.Callback):
    """Callback that logs `pictures` of the module, name → float (Y, X), set in the first step of each epoch."""

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Log the pictures after the first step of an epoch, on rank 0."""
        if batch_idx:
            return
        pictures = cast(dict[str, Tensor], pl_module.pictures)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for name, values in pictures.items():
                    logger.experiment.add_image(name, picture(values), trainer.global_step, dataformats="HWC")


def magnitude(features: Tensor) -> Tensor:
    """Norm float32 (Y, X) of each cell's features (C, Y, X)."""
    return torch.linalg.vector_norm(features.detach().float(), dim=0)


def cells_in_base_link(values: Tensor, config: ModelConfig) -> Tensor:
    """Turn values (Y, X) of a network's cells to the same grid in base_link, 0 where the network has no cell."""
    network_from_base = config.network_from_base
    if network_from_base is None:
        return values
    grid = config.grid.grid()
    sampling = sampling_grid(grid, grid, network_from_base).to(values.device)
    return functional.grid_sample(values[None, None].float(), sampling, mode="nearest", align_corners=False)[0, 0]


def picture(values: Tensor) -> np.ndarray:
    """RGB image uint8 (X, Y, 3) of values (Y, X) ≥ 0, dark at 0, bright at the maximum; forward is up, left is left."""
    upright = values.detach().float().cpu().numpy().T[::-1, ::-1]
    colours = np.asarray(COLOURS(upright / max(upright.max(), np.finfo(np.float32).tiny)))
    return (255 * colours[..., :3]).round().astype(np.uint8)

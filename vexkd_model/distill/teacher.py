"""The frozen teacher."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.criterion import head_losses
from vexkd_model.data.batch import Batch, SensorBatch
from vexkd_model.distill.map_cache import MapCache
from vexkd_model.model import BevFeatures, BevModel


class Taught(NamedTuple):
    """A teacher's maps of a batch, and the learned queries (C, Y, X) of its fusion, None without; no gradients."""

    features: BevFeatures
    query: Tensor | None


class Teacher:
    """A model that only answers. Not a module: no optimiser, checkpoint, average or process group shall see it.

    cache: where its maps of every sample lie already, if they do.
    """

    def __init__(self, model: BevModel, config: ModelConfig, cache: MapCache | None = None) -> None:
        self.model, self.config, self.cache = model.eval().requires_grad_(False), config, cache
        self.grid = config.grid.grid()

    def __deepcopy__(self, _: dict) -> "Teacher":
        """Itself: a moving average of a student's weights needs no second teacher."""
        return self

    def to(self, device: torch.device) -> None:
        self.model.to(device)

    def __call__(self, batch: Batch) -> Taught:
        """What it makes of the batch's `teacher` sensors."""
        if self.cache is not None:
            return Taught(self.cache.read(batch.tokens, batch.map_masks.device), self._query)
        return self.look(batch.teacher)

    def look(self, sensors: SensorBatch) -> Taught:
        """What it makes of its sensors."""
        with torch.no_grad():
            return Taught(self.model(sensors).features, self._query)

    @property
    def _query(self) -> Tensor | None:
        return self.model.fusion and self.model.fusion.query

    def task_loss(self, level: str, features: Tensor, batch: Batch) -> Tensor:
        """Sum of its task losses, with `features` in the place of its own map of this level; the gradient goes through
        what remains of it, into `features`. The masked task loss of VeXKD (NeurIPS 2024)."""
        high = self.model.bev(features) if level == "low" else features
        return sum(head_losses(self.config, *self.model.heads(high), batch).values())


def fingerprint(model: BevModel) -> str:
    """SHA-256 of all weights and buffers, in hexadecimal digits: which teacher this is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

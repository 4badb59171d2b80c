"""The frozen teacher."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.criterion import head_losses
from vexkd_model.data.batch import Batch, SensorBatch
from vexkd_model.distill.map_cache import MapCache
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.model import BevFeatures, BevModel


class Taught(NamedTuple):
    """What a teacher answers to a batch; no gradients.

    features: its maps. query: the learned queries (C, Y, X) of its fusion, None without. detection, segmentation: of a
    ModelOutput, where they were asked for. depth: of a ModelOutput; a cache does not hold it.
    """

    features: BevFeatures
    query: Tensor | None
    detection: list[TaskMaps] | TransFusionOutput | None = None
    segmentation: Tensor | None = None
    depth: Tensor | None = None


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

    def __call__(self, batch: Batch, heads: bool = False) -> Taught:
        """What it makes of the batch's `teacher` sensors. heads: let its heads answer, too."""
        if self.cache is not None:
            return self._taught(self.cache.read(batch.tokens, batch.map_masks.device), None, heads)
        return self.look(batch.teacher, heads)

    @torch.no_grad()
    def look(self, sensors: SensorBatch, heads: bool = False) -> Taught:
        """What it makes of its sensors."""
        return self._taught(*self.model.maps(sensors), heads)

    @torch.no_grad()
    def _taught(self, features: BevFeatures, depth: Tensor | None, heads: bool) -> Taught:
        query = self.model.fusion and self.model.fusion.query
        return Taught(features, query, *(self.model.heads(features.high) if heads else (None, None)), depth)

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

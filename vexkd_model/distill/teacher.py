"""Teacher of a distillation: a frozen model, its outputs and its identity."""

import hashlib
from typing import NamedTuple, cast

import torch
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.criterion import build_criterion
from vexkd_model.data.batch import Batch, SensorBatch
from vexkd_model.distill.map_cache import MapCache
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.decode import build_decoder
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.model import BevFeatures, BevModel


class TeacherOutput(NamedTuple):
    """Outputs of a teacher for a batch, without gradients.

    features: BEV maps (B, C, Y, X) of both levels. query: learned queries (C, Y, X) of its fusion, None without.
    detection, segmentation: as in ModelOutput, None where the heads were not run. depth: as in ModelOutput; None from
    a cache.
    """

    features: BevFeatures
    query: Tensor | None
    detection: list[TaskMaps] | TransFusionOutput | None = None
    segmentation: Tensor | None = None
    depth: Tensor | None = None


class Teacher:
    """Frozen teacher; deliberately not an nn.Module, so that it is neither optimised, saved, averaged nor synchronised.

    cache: its precomputed maps of every sample, if any.
    """

    def __init__(self, model: BevModel, config: ModelConfig, cache: MapCache | None = None) -> None:
        self.model, self.config, self.cache = model.eval().requires_grad_(False), config, cache
        self.grid = config.grid.grid()
        self.criterion, self.decoder = build_criterion(config), build_decoder(config)

    def __deepcopy__(self, _: dict) -> "Teacher":
        """Return itself: a moving average of a student's weights needs no second teacher."""
        return self

    def to(self, device: torch.device) -> None:
        self.model.to(device)

    def __call__(self, batch: Batch, heads: bool = False) -> TeacherOutput:
        """Run on the batch's `teacher` sensors, or read the cache; with `heads`, run its heads, too."""
        if self.cache is not None:
            return self._output(self.cache.read(batch.tokens, batch.map_masks.device), None, heads)
        assert batch.teacher is not None, "batches of a distillation hold the teacher's sensors"
        return self.run(batch.teacher, heads)

    @torch.no_grad()
    def run(self, sensors: SensorBatch, heads: bool = False) -> TeacherOutput:
        """Run on its sensors; with `heads`, run its heads, too."""
        return self._output(*self.model.maps(sensors), heads)

    @torch.no_grad()
    def _output(self, features: BevFeatures, depth: Tensor | None, heads: bool) -> TeacherOutput:
        query = None if self.model.fusion is None else cast("Tensor | None", self.model.fusion.query)
        return TeacherOutput(features, query, *(self.model.heads(features.high) if heads else (None, None)), depth)

    def task_loss(self, level: str, features: Tensor, batch: Batch) -> Tensor:
        """Masked task loss of VeXKD (NeurIPS 2024): the teacher's task losses on `features`, summed.

        features: (B, C, Y, X), in place of its own map of this level; the gradient flows through its later layers into
        them.
        """
        high = self.model.bev(features) if level == "low" else features
        return cast(Tensor, sum(self.criterion.heads(*self.model.heads(high), batch).values()))


def fingerprint(model: BevModel) -> str:
    """SHA-256 of all weights and buffers, in hexadecimal digits: the identity of a teacher."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

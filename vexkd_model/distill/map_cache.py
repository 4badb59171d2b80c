"""Cache of a teacher's BEV maps on disk, for trainings without BEV augmentation.

The kept maps are those of inference: whatever is drawn for a student's images or sensors, its teacher sees the moment
as it is, and both describe the same BEV map.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vexkd_model.config import ModelConfig
from vexkd_model.config.distill import DistillationConfig
from vexkd_model.config.training import TrainingConfig
from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file, locked
from vexkd_model.machine import in_bfloat16
from vexkd_model.model import BevFeatures, BevModel
from vexkd_model.progress import progress


class MapCache:
    """Folder with one file per sample: both levels, (C, Y, X) each, in the precision in which they were computed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, tokens: Sequence[str], device: torch.device) -> BevFeatures:
        """Read the maps (B, C, Y, X) of both levels; every token must have been filled in."""
        maps = [self._maps(token) for token in tokens]
        return BevFeatures(
            *(torch.stack([levels[level] for levels in maps]).to(device) for level in BevFeatures._fields)
        )

    def fill(
        self, model: BevModel, config: ModelConfig, settings: TrainingConfig, index: FrameIndex, device: torch.device
    ) -> None:
        """Compute the missing maps of the index's frames; processes that fill the same folder take turns.

        settings: of the student's training, in whose precision they are computed.
        """
        model = model.eval().to(device)
        precision = torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(settings.precision, device))
        with locked(self.folder / ".lock"):
            missing = [i for i, token in enumerate(index.column("token")) if not self._path(token).is_file()]
            for i in progress(missing, f"teacher maps of {index.split}", unit="frames"):
                frame = load_frame(index, i, config)
                with torch.no_grad(), precision:
                    features = model(sensors_for(config, [frame]).to(device)).features
                with atomic_file(self._path(frame.token)) as partial:
                    save_file(
                        {level: maps[0].cpu().contiguous() for level, maps in features._asdict().items()}, partial
                    )

    def _maps(self, token: str) -> dict[str, torch.Tensor]:
        path = self._path(token)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it, the same command makes it again") from None

    def _path(self, token: str) -> Path:
        return self.folder / f"{token}.safetensors"


def check_cacheable(settings: TrainingConfig, distillation: DistillationConfig) -> None:
    """Raise UserError unless the world is the same in every epoch and only the teacher's maps are used."""
    if distillation.depth:
        raise UserError(
            "--cache: distillation.depth needs the teacher's depths, and only its maps are kept; set it to "
            "0, or distil without --cache"
        )
    sizes = settings.augment.model_dump(exclude={"off_for_last_epochs"})
    moving = [f"training.augment.{name}" for name, size in sizes.items() if size]
    moving += ["training.paste"] if settings.paste is not None else []
    if moving:
        raise UserError(
            f"--cache: {moving[0]} shows the teacher something else in every epoch; switch it off, or "
            "distil without --cache"
        )

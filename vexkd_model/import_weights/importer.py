"""Import of published weights of mmdetection3d, CenterPoint, BEVDet and BEVFusion: `vexkd import-weights`.

An imported network computes the same as the published one, from the same input. But the published LiDAR networks see
nuScenes' LiDAR frame, x to the right and y forward, and ours base_link, x forward and y left. Their weights are not
turned by those 90°: a turn is a transposition, which is exact, and a flip, which is not, because a convolution of
stride 2 steps on other cells when an even number of them is flipped. With random weights, after three such steps and
SECOND, the map of a flipped network is off by 113 % of its own standard deviation, and that of one that is not flipped
at all by 142 %, which is chance. So a network keeps its function, from points in whatever frame to boxes in that frame,
and the report names that frame: in base_link it sees the world turned by 90° and 1.84 m higher, and wants
fine-tuning.
"""

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vexkd_model.config import ModelConfig
from vexkd_model.errors import UserError
from vexkd_model.foreign_checkpoint import read_checkpoint_data
from vexkd_model.import_weights.families import recognise_family
from vexkd_model.import_weights.layers import Layers, TensorRecipe
from vexkd_model.model import BevModel

COUNTERS = ".num_batches_tracked"  # no weights; batch norms of ours do not use them
FAMILIES = "mmdetection3d's CenterPoint and BEVFusion, CenterPoint, BEVDet, BEVFusion"
VERSION = "mmdet3d_version"


class ShapeMismatch(NamedTuple):
    """Tensor of the model that has another shape in the checkpoint, and so keeps its values."""

    ours: str
    our_shape: tuple[int, ...]
    theirs: str
    their_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.ours} {self.our_shape}: {self.theirs} {self.their_shape}"


@dataclass(frozen=True)
class ImportReport:
    """Names of the tensors that were loaded and that were not.

    matched: ours, loaded. missing: ours, without a source. unexpected: published, not used. differing: of another
    shape. notes: sentences about the data that the weights were trained on.
    """

    family: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    differing: tuple[ShapeMismatch, ...]
    notes: tuple[str, ...]

    def text(self, lines: int | None = 5) -> str:
        """Format the report for a terminal, with at most `lines` names of each group; None: all."""
        groups = [
            ("differ in shape, left as they were", list(map(str, self.differing))),
            ("of the model have no source, left as they were", self.missing),
            ("of the checkpoint were not used", self.unexpected),
        ]
        text = [
            f"{self.family}: {len(self.matched)} of "
            f"{len(self.matched) + len(self.missing) + len(self.differing)} tensors loaded"
        ]
        for title, names in groups:
            text.append(f"{len(names)} {title}{':' if names else ''}")
            text += [f"  {name}" for name in names[:lines]]
            text += [f"  … and {len(names) - lines} more"] if lines is not None and len(names) > lines else []
        return "\n".join([*text, *self.notes])


def import_weights(checkpoint: Path, config: ModelConfig, model: BevModel) -> ImportReport:
    """Load what fits of `checkpoint`, a .pth, .pt, .ckpt or .safetensors file, into `model`, built from `config`.

    UserError, in one line, where the file cannot be read, is of no known family, holds what is not finite, or has
    nothing that fits; the model is then as it was.
    """
    published, version = _read(Path(checkpoint))
    known = recognise_family(published.keys(), version, config, model)
    if known is None:
        raise UserError(
            f"{checkpoint}: the names of its tensors are of no known family ({FAMILIES}); it begins with "
            f"{next(iter(published))}"
        )
    ours = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(COUNTERS)}
    loaded, used, differing = {}, set(), []
    for recipe in _applicable_recipes(known.layers, published, ours, model):
        shape = ours[recipe.ours].shape
        tensor = _apply(recipe, [published[name] for name in recipe.theirs], shape)
        used.update(recipe.theirs)
        if tensor is None:
            their = recipe.theirs[0]
            differing.append(ShapeMismatch(recipe.ours, tuple(shape), their, tuple(published[their].shape)))
        elif not tensor.isfinite().all():
            raise UserError(f"{checkpoint}: {recipe.theirs[0]}: holds numbers that are not finite; get the file again")
        else:
            loaded[recipe.ours] = tensor
    if not loaded:
        raise UserError(
            f"{checkpoint}: nothing of {known.name} fits {config.name}; choose the configuration of that network"
        )
    model.load_state_dict(loaded, strict=False)
    missing = ours.keys() - loaded.keys() - {difference.ours for difference in differing}
    return ImportReport(
        known.name,
        tuple(loaded),
        tuple(name for name in ours if name in missing),
        tuple(name for name in published if name not in used),
        tuple(differing),
        tuple(known.notes),
    )


def _applicable_recipes(
    layers: Layers, published: Mapping[str, Tensor], ours: Mapping[str, Tensor], model: BevModel
) -> Iterator[TensorRecipe]:
    """Yield the recipes whose result is in the model and whose sources are all in the checkpoint."""
    for layer in layers:
        for recipe in layer.recipes(published.keys(), lambda norm: cast(float, model.get_submodule(norm).eps)):
            if recipe.ours in ours and all(name in published for name in recipe.theirs):
                yield recipe


def _apply(recipe: TensorRecipe, theirs: Sequence[Tensor], shape: torch.Size) -> Tensor | None:
    """Make one tensor of ours; None if the published tensors have another rank or size than the recipe expects."""
    try:
        tensor = recipe.make(*(tensor.float() for tensor in theirs), shape)
    except (RuntimeError, IndexError):
        return None
    return tensor.contiguous() if tensor.shape == shape else None


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Read the tensors by name, and the version of mmdetection3d if the file states it."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; download the checkpoint and give its path")
    try:
        content, meta = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, OSError) as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise UserError(f"{path}: damaged, or not a checkpoint; download it again") from None
        raise UserError(f"{path}: would run {wanted[1]}, which no checkpoint needs; get it from elsewhere") from None
    tensors = {
        name.removeprefix("module."): tensor
        for name, tensor in content.items()
        if isinstance(tensor, Tensor) and not name.endswith(COUNTERS)
    }
    if not tensors:
        raise UserError(f"{path}: holds no tensors by name; give a checkpoint with a state_dict")
    version = meta.get(VERSION)
    return tensors, str(version) if version else None


def _read_safetensors(path: Path) -> tuple[Mapping, Mapping]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_torch(path: Path) -> tuple[Mapping, Mapping]:
    content = read_checkpoint_data(path)
    if not isinstance(content, Mapping):
        return {}, {}
    meta = content.get("meta")
    tensors = content.get("state_dict", content.get("model", content))
    return (tensors if isinstance(tensors, Mapping) else {}), (meta if isinstance(meta, Mapping) else {})

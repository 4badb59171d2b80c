"""Import of published weights of mmdetection3d, CenterPoint, BEVDet and BEVFusion: `vexkd import-weights`.

An imported network computes the same as the published one, in the same frame: that of nuScenes' LiDAR, x to the right
and y forward, for all but the newer BEVDets. The weights are not turned to base_link's axes: a turn by 90° is a
transposition, which is exact, and a flip, which is not, because a convolution of stride 2 steps on other cells when an
even number of them is flipped. With random weights, after three such steps and SECOND, the map of a flipped network is
off by 113 % of its own standard deviation, which is chance. Instead the package's configuration states the frame, and
what goes in and comes out is moved (data/network_frame.py).
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
from vexkd_model.import_weights.families import FRAME_NOTE, NUSCENES_LIDAR, published_frame, recognise_family
from vexkd_model.import_weights.layers import Layers, TensorRecipe
from vexkd_model.model import BevModel, build_model

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


def import_weights(checkpoint: Path, config: ModelConfig) -> tuple[BevModel, ModelConfig, ImportReport]:
    """Make the model of `config` with what fits of `checkpoint`, a .pth, .pt, .ckpt or .safetensors file.

    The configuration that is returned states the published network's frame, unless `config` states one, and leaves out
    a head of which the checkpoint holds nothing. UserError, in one line, where the file cannot be read, is of no known
    family, holds what is not finite, or has nothing that fits.
    """
    published, version = _read(Path(checkpoint))
    if config.frame is None:
        config = config.model_copy(update={"frame": published_frame(published.keys())})
    model = build_model(config)
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
    config, without = _without_empty_heads(model, config, loaded)
    missing = model.state_dict().keys() & ours.keys() - loaded.keys() - {difference.ours for difference in differing}
    frame = [FRAME_NOTE] if config.frame == NUSCENES_LIDAR else []
    report = ImportReport(
        known.name,
        tuple(loaded),
        tuple(name for name in ours if name in missing),
        tuple(name for name in published if name not in used),
        tuple(differing),
        (*frame, *known.notes, *without),
    )
    return model, config, report


def _without_empty_heads(
    model: BevModel, config: ModelConfig, loaded: Mapping[str, Tensor]
) -> tuple[ModelConfig, list[str]]:
    """Take heads without any imported tensor out of the model and its configuration; also return notes that say so."""
    empty = [
        head
        for head in ("detection", "segmentation")
        if getattr(model, head) is not None and not any(name.startswith(f"{head}.") for name in loaded)
    ]
    if len(empty) == sum(head is not None for head in (model.detection, model.segmentation)):
        return config, []  # all that is left is a backbone, for whoever trains heads on it
    for head in empty:
        setattr(model, head, None)
    notes = [f"They have no {head}, and the package leaves it out." for head in empty]
    return config.model_copy(update=dict.fromkeys(empty)), notes


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

"""Pretrained weights for an image backbone, under the names of whoever published them.

Known are transformers' names (its own and those of files on the Hugging Face hub), torchvision's for ResNet and
Microsoft's for Swin. Each is brought to transformers' own, which are ours, and then everything must fit.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vexkd_model.camera.backbone import ImageBackbone
from vexkd_model.errors import UserError
from vexkd_model.foreign_checkpoint import read_checkpoint_data

SUFFIXES = (".safetensors", ".pth", ".pt")
WRAPPERS = ("model", "state_dict")  # what training code puts around the tensors
HUB_FILE = "model.safetensors"
# Patterns and replacements, applied in this order to every name.
PREFIXES = ((r"^module\.", ""), (r"^(resnet|swin)\.", ""))
RESNET_NAMES = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.", lambda found: f"encoder.stages.{int(found[1]) - 1}.layers."),
    (r"\.conv(\d)\.", lambda found: f".layer.{int(found[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda found: f".layer.{int(found[1]) - 1}.normalization."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
)
SWIN_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.", "embeddings."),
    (r"^layers\.", "encoder.layers."),
    (r"^(embeddings|encoder|layernorm)\.", r"swin.\1."),
    (r"^norm(\d)\.", lambda found: f"hidden_states_norms.stage{int(found[1]) + 1}."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.", ".attention."),
    (r"\.attention\.self\.", ".attention."),
    (r"\.attention\.(query|key|value)\.", lambda found: f".attention.{found[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.attention\.relative_position_bias_table$", ".attention.relative_position_bias.relative_position_bias_table"),
)
# An ImageNet network is a classifier, and has no norm at each stage; buffers that the code computes are no weights.
CLASSIFIER = r"^(fc|head|classifier|norm|swin\.layernorm)\."
COMPUTED = r"(relative_position_index|attn_mask|num_batches_tracked)$"
STAGE_NORM = r"^hidden_states_norms\."


def load_backbone_weights(backbone: ImageBackbone, source: str) -> None:
    """Load the weights of `source` into `backbone`, in place.

    source: a .safetensors, .pth or .pt file, a folder that transformers saved, or a name on the Hugging Face hub.
    A classifier and stages that the backbone lacks are left out. Anything else that is missing, left over or of another
    shape is a UserError that names it. The norms at Swin's asked stages stay as they are where the source has none.
    """
    path = _file_of(source)
    ours = {name: tensor for name, tensor in backbone.body.state_dict().items() if not re.search(COMPUTED, name)}
    found, names = {}, {}
    for theirs, name, tensor in _renamed(_read(path), backbone.name):
        found[name], names[name] = tensor, theirs
    cure = f"give weights of {backbone.name}"
    for name in ours:
        if name not in found and not re.search(STAGE_NORM, name):
            raise UserError(f"{path}: {name}: no such tensor; {cure}")
    for name, theirs in names.items():
        if name not in ours and not _may_be_left(name, backbone.stages[-1]):
            raise UserError(f"{path}: {theirs}: {backbone.name} has no such tensor; {cure}")
    taken = {name: found[name] for name in ours if name in found}
    for name, tensor in taken.items():
        if tensor.shape != ours[name].shape:
            raise UserError(
                f"{path}: {names[name]}: shape {tuple(tensor.shape)} where {backbone.name} has "
                f"{tuple(ours[name].shape)}; {cure}"
            )
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {names[name]}: holds numbers that are not finite; get the weights again")
    backbone.body.load_state_dict(taken, strict=False)


def _may_be_left(name: str, last: int) -> bool:
    """Tell if a backbone down to stage `last` needs no tensor of this name, which is transformers'."""
    stage = re.search(r"^(?:swin\.)?encoder\.(?:stages|layers)\.(\d+)\.(downsample)?", name)
    if stage and int(stage[1]) + bool(stage[2]) >= last:  # Swin's downsample leads to the next stage
        return True
    return any(re.search(pattern, name) for pattern in (CLASSIFIER, COMPUTED, STAGE_NORM))


def _renamed(tensors: Mapping[str, Tensor], network: str) -> Iterator[tuple[str, str, Tensor]]:
    """Yield each tensor with its published name and transformers' name, in this order: both, then the tensor."""
    rules = SWIN_NAMES if network == "swin_tiny" else RESNET_NAMES
    for theirs, tensor in tensors.items():
        name = theirs
        for pattern, replacement in (*PREFIXES, *rules):
            name = re.sub(pattern, replacement, name)
        if ".attention.qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=False):
                yield theirs, name.replace(".qkv.", f".{letter}_proj."), part
        else:
            yield theirs, name, tensor


def _file_of(source: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return path / HUB_FILE
    if path.suffix in SUFFIXES:
        raise UserError(f"{source}: no such file; give downloaded weights, or a name on the Hugging Face hub")
    from huggingface_hub import hf_hub_download  # not at every start of a student: it brings a client for HTTP

    try:
        return Path(hf_hub_download(source, HUB_FILE))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{source}: cannot be had from the Hugging Face hub ({_first_line(error)}); download its "
            f"{HUB_FILE} where there is network, and give that file"
        ) from None


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: not one of {', '.join(SUFFIXES)}; give the weights as one of these")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = read_checkpoint_data(path)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: cannot be read ({_first_line(error)}); get the weights again") from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no tensors by name; give a state dict")
    return {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]

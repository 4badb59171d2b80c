"""Student package: a folder with weights.safetensors, model.yaml and card.json, checked when it is loaded.

Loading checks everything that it reads and never unpickles.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from vexkd_model.config import ModelConfig, dump_config
from vexkd_model.deploy.card import CARD, CONFIG, StudentCard, card_fields, read_card, read_verified
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file, replace_folder
from vexkd_model.model import BevModel, build_model
from vexkd_model.sensor_check.statistics import InputStatistics

WEIGHTS = "weights.safetensors"


def save_package(
    folder: Path,
    student: BevModel,
    config: ModelConfig,
    trained_on: Mapping[str, Any],
    metrics: Mapping[str, Any],
    source_revision: str,
    inputs: InputStatistics | None = None,
    half: bool = False,
) -> StudentCard:
    """Write a package; an existing one at `folder` is replaced atomically.

    half: store weights in float16, at half the size; they are used in float32 again. Norms and biases stay float32.
    The distillation settings are left out: a distilled student differs from a plain one in the values of its weights
    alone.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / CARD).is_file():
        raise UserError(f"{folder}: exists and is not a student package; choose another place")
    state = student.state_dict()
    if half:
        # Running variances exceed float16's range; what has one dimension is small anyway.
        state = {
            name: tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
            for name, tensor in state.items()
        }
    weights = save_safetensors({name: tensor.contiguous() for name, tensor in state.items()})
    config = config.model_copy(update={"distillation": None})
    text = dump_config(config)
    card = StudentCard(
        **card_fields(config),
        inputs=inputs,
        trained_on=dict(trained_on),
        metrics=dict(metrics),
        source_revision=source_revision,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        config_sha256=hashlib.sha256(text.encode()).hexdigest(),
    )
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / WEIGHTS).write_bytes(weights)
    (partial / CONFIG).write_text(text)
    write_card(partial, card)
    replace_folder(partial, folder)
    return card


def write_card(folder: Path, card: StudentCard) -> None:
    """Write the card of a package atomically; the checksums in it must be those of the files beside it."""
    with atomic_file(folder / CARD) as partial:
        partial.write_text(card.model_dump_json(indent=1) + "\n")


def load_package(folder: Path) -> tuple[BevModel, ModelConfig, StudentCard]:
    """Load the student in eval mode, its configuration and card; UserError names the file and key that are wrong."""
    folder = Path(folder)
    config, card = read_card(folder)
    student = build_model(config)
    _load_weights(student, read_verified(folder / WEIGHTS, card.weights_sha256, "weights_sha256"), folder / WEIGHTS)
    return student.eval(), config, card


def load_graphs(folder: Path, card: StudentCard) -> dict[str, bytes]:
    """Load the ONNX files of a package by name; UserError names one that is damaged."""
    return {name: read_verified(folder / name, digest, f"graphs.{name}") for name, digest in card.graphs.items()}


def _load_weights(student: BevModel, content: bytes, path: Path) -> None:
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise UserError(f"{path}: not safetensors ({error})") from None
    expected = student.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise UserError(f"{path}: {name}: tensor is {'missing' if name in expected else 'unexpected'} for {CONFIG}")
    for name, tensor in tensors.items():
        wanted = expected[name].shape
        if tensor.shape != wanted:
            raise UserError(f"{path}: {name}: shape {tuple(tensor.shape)}, {CONFIG} wants {tuple(wanted)}")
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name}: holds values that are not finite")
    student.load_state_dict(tensors)

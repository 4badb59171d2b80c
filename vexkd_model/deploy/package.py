"""The student package: a folder with weights.safetensors, model.yaml and card.json that a vehicle can trust.

Loading checks everything that it reads and never unpickles.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from vexkd_model.config import ModelConfig, dump_config, parse_config
from vexkd_model.deploy.input_statistics import InputStatistics
from vexkd_model.errors import UserError
from vexkd_model.files import replace_folder
from vexkd_model.model import BevModel, build_model
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES

WEIGHTS, CONFIG, CARD = "weights.safetensors", "model.yaml", "card.json"
FORMAT = 3


class StudentCard(BaseModel):
    """What a user must know before trusting a student.

    sensors: lidar, camera or both. sweeps: LiDAR sweeps that it expects, 0 without LiDAR. cameras: nuScenes' names of
    those that it expects. grid_extent: half the edge of its BEV square [m]. inputs: what its sensors were like in
    training, null where nobody measured it. trained_on: the data and the command. metrics: measured figures and how.
    source_revision: git commit of the code that trained it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    name: str
    sensors: tuple[str, ...]
    sweeps: int
    cameras: tuple[str, ...]
    detection_classes: tuple[str, ...]
    map_classes: tuple[str, ...]
    grid_extent: float
    grid_cell: float
    inputs: InputStatistics | None
    trained_on: dict[str, Any]
    metrics: dict[str, Any]
    source_revision: str
    weights_sha256: str
    config_sha256: str


def save_package(folder: Path, student: BevModel, config: ModelConfig, trained_on: Mapping[str, Any],
                 metrics: Mapping[str, Any], source_revision: str,
                 inputs: InputStatistics | None = None) -> StudentCard:
    """Write a package; an existing package at `folder` is replaced at once, never half. How the student was distilled
    stays behind: a distilled one differs from a plain one in the values of its weights alone."""
    folder = Path(folder)
    if folder.exists() and not (folder / CARD).is_file():
        raise UserError(f"{folder}: exists and is not a student package; choose another place")
    weights = save_safetensors({name: tensor.contiguous() for name, tensor in student.state_dict().items()})
    config = config.model_copy(update={"distillation": None})
    text = dump_config(config)
    card = StudentCard(
        **_said_of(config), inputs=inputs, trained_on=dict(trained_on), metrics=dict(metrics),
        source_revision=source_revision, weights_sha256=hashlib.sha256(weights).hexdigest(),
        config_sha256=hashlib.sha256(text.encode()).hexdigest())
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / WEIGHTS).write_bytes(weights)
    (partial / CONFIG).write_text(text)
    (partial / CARD).write_text(card.model_dump_json(indent=1) + "\n")
    replace_folder(partial, folder)
    return card


def load_package(folder: Path) -> tuple[BevModel, ModelConfig, StudentCard]:
    """The student with its weights, in eval mode. UserError names the file and key of whatever does not hold."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such student package; `vexkd export RUN {folder}` makes one")
    card = _read_card(folder / CARD)
    text = _checked(folder / CONFIG, card.config_sha256, "config_sha256")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{folder / CONFIG}: not YAML: {' '.join(str(error).split())}") from None
    config = parse_config(values, str(folder / CONFIG))
    _card_matches_config(card, config, folder)
    student = build_model(config)
    _load_weights(student, _checked(folder / WEIGHTS, card.weights_sha256, "weights_sha256"), folder / WEIGHTS)
    return student.eval(), config, card


def _read_card(path: Path) -> StudentCard:
    try:
        return StudentCard.model_validate_json(_read(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "JSON"
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise UserError(f"{path}: {key}: {message}; export the student again") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); copy the whole student package") from None


def _checked(path: Path, expected: str, key: str) -> bytes:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(f"{path}: {len(content)} bytes do not match {key} of {CARD}: damaged, truncated or changed; "
                        "copy the student package again")
    return content


def _said_of(config: ModelConfig) -> dict[str, Any]:
    """What a card repeats of the configuration, for people."""
    return {"format": FORMAT, "name": config.name, "sensors": config.sensors, "sweeps": config.sweeps,
            "cameras": config.camera.images.cameras if config.camera else (),
            "detection_classes": DETECTION_CLASSES if config.detection else (),
            "map_classes": MAP_CLASSES if config.segmentation else (), "grid_extent": config.grid.extent,
            "grid_cell": config.grid.cell}  # fmt: skip


def _card_matches_config(card: StudentCard, config: ModelConfig, folder: Path) -> None:
    for key, value in _said_of(config).items():
        if getattr(card, key) != value:
            raise UserError(f"{folder / CARD}: {key}: is {getattr(card, key)!r}, but {CONFIG} and this software say "
                            f"{value!r}; export the student again")


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

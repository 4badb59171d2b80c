"""Card and configuration of a student package, which describe a student without loading its weights."""

import hashlib
import shlex
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vexkd_model.config import ModelConfig, parse_config
from vexkd_model.config.frame import FrameConfig
from vexkd_model.deploy.reliability import Reliability
from vexkd_model.errors import UserError
from vexkd_model.sensor_check.statistics import InputStatistics
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES

CONFIG, CARD = "model.yaml", "card.json"
FORMAT = 1


class StudentCard(BaseModel):
    """Description of a student: interface, training data, metrics and checksums.

    sensors: lidar, camera or both. sweeps: LiDAR sweeps that it expects, 0 without LiDAR. cameras: nuScenes' names of
    those that it expects. grid_extent: half the edge of its BEV square [m]. frame: where the network's own frame lies,
    null where it works in base_link; what it says is in base_link all the same. inputs: what its sensors were like in
    training, null where nobody measured it. trained_on: the data and the command. metrics: measured figures and how.
    source_revision: git commit of the code that trained it. graphs: SHA-256 of its ONNX files, by name, if it has any;
    graph_precision: float32 or int8. reliability: what its scores and boxes are worth, null where nobody measured it.
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
    frame: FrameConfig | None = None
    inputs: InputStatistics | None
    trained_on: dict[str, Any]
    metrics: dict[str, Any]
    source_revision: str
    weights_sha256: str
    config_sha256: str
    graphs: dict[str, str] = {}
    graph_precision: str | None = None
    reliability: Reliability | None = None


def read_card(folder: Path) -> tuple[ModelConfig, StudentCard]:
    """Read the configuration and card of a package. UserError names the file and key of whatever does not hold."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such student package; `vexkd export RUN {shlex.quote(str(folder))}` makes one")
    card = _read_card(folder / CARD)
    text = read_verified(folder / CONFIG, card.config_sha256, "config_sha256")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{folder / CONFIG}: not YAML: {' '.join(str(error).split())}") from None
    config = parse_config(values, str(folder / CONFIG))
    _card_matches_config(card, config, folder)
    return config, card


def card_fields(config: ModelConfig) -> dict[str, Any]:
    """Fields of a card that repeat the configuration for a human reader."""
    return {
        "format": FORMAT,
        "name": config.name,
        "sensors": config.sensors,
        "sweeps": config.sweeps,
        "cameras": config.camera.images.cameras if config.camera else (),
        "detection_classes": DETECTION_CLASSES if config.detection else (),
        "map_classes": MAP_CLASSES if config.segmentation else (),
        "grid_extent": config.grid.extent,
        "grid_cell": config.grid.cell,
        "frame": config.frame,
    }


def read_verified(path: Path, expected: str, key: str) -> bytes:
    """Read a file of a package; UserError unless its SHA-256 is `expected`, which the card states under `key`."""
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(
            f"{path}: {len(content)} bytes do not match {key} of {CARD}: damaged, truncated or changed; "
            "copy the student package again"
        )
    return content


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


def _card_matches_config(card: StudentCard, config: ModelConfig, folder: Path) -> None:
    for key, value in card_fields(config).items():
        if getattr(card, key) != value:
            raise UserError(
                f"{folder / CARD}: {key}: is {getattr(card, key)!r}, but {CONFIG} and this software say "
                f"{value!r}; export the student again"
            )

"""Configuration of a model: what `config/model/*.yaml` holds and every student package carries.

Frozen, checked at construction, and without inheritance: one file says everything. An unknown key or a bad value
is a UserError that names the file and the key.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from pydantic import Field, model_validator

from vexkd_model.config.bev import FusionConfig, ResNetBevConfig, SecondConfig
from vexkd_model.config.camera import CameraConfig, LiftSplatConfig
from vexkd_model.config.distill import DistillationConfig
from vexkd_model.config.frame import FrameConfig
from vexkd_model.config.heads import DetectionConfig, SegmentationConfig
from vexkd_model.config.known_keys import did_you_mean_key, known_keys
from vexkd_model.config.lidar import LidarConfig, PillarEncoderConfig
from vexkd_model.config.reading import parse_section, read_mapping
from vexkd_model.config.section import GridConfig, Section
from vexkd_model.config.strict_yaml import SurprisingYaml, parse_yaml
from vexkd_model.config.training import TrainingConfig
from vexkd_model.errors import UserError

FOLDER, EXAMPLE = "config/model", "lidar_pillar_small.yaml"


class ModelConfig(Section):
    """Configuration of a teacher or a student.

    Null are lidar or camera, detection or segmentation, that it does not have; fusion belongs to models with both
    sensors.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    grid: GridConfig = Field(description="of both BEV feature levels")
    frame: FrameConfig | None = Field(
        None, description="of the grid and of all that the network sees and says; null: base_link"
    )
    lidar: LidarConfig | None
    camera: CameraConfig | None
    fusion: FusionConfig | None
    bev: Annotated[SecondConfig | ResNetBevConfig, Field(discriminator="kind")]
    detection: DetectionConfig | None
    segmentation: SegmentationConfig | None
    training: TrainingConfig
    distillation: DistillationConfig | None = Field(None, description="what `vexkd distill` adds to the training")

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that the model reads: lidar, camera or both."""
        return tuple(name for name in ("lidar", "camera") if getattr(self, name) is not None)

    @property
    def network_from_base(self) -> np.ndarray | None:
        """Rigid transform, float64 (4, 4), from base_link to the network's frame; None where that is base_link."""
        return self.frame and self.frame.network_from_base()

    @property
    def sweeps(self) -> int:
        """LiDAR sweeps in a frame, the newest included; 0 for a model without LiDAR."""
        return self.lidar.sweeps if self.lidar else 0

    @property
    def sweep_interval(self) -> float | None:
        """Time between the sweeps of a frame [s]; None: every sweep."""
        return self.lidar.sweep_interval if self.lidar else None

    @property
    def training_sweeps(self) -> int:
        """LiDAR sweeps in a training frame; one at least where the LiDAR supervises a camera student's depth."""
        view = self.camera and self.camera.view
        supervised = isinstance(view, LiftSplatConfig) and view.depth_loss_weight > 0
        return max(self.sweeps, 1 if supervised else 0)

    @model_validator(mode="after")
    def _senses_and_says_something(self) -> "ModelConfig":
        if not self.sensors:
            raise ValueError("lidar and camera are both null; describe at least one")
        if (len(self.sensors) == 2) != (self.fusion is not None):
            raise ValueError("fusion belongs to models with lidar and camera, and only to them")
        if self.detection is None and self.segmentation is None:
            raise ValueError("detection and segmentation are both null; describe at least one")
        return self

    @model_validator(mode="after")
    def _one_sensor_remains(self) -> "ModelConfig":
        if self.training.sensor_dropout and len(self.sensors) == 1:
            raise ValueError("training.sensor_dropout is for models with lidar and camera; set it to 0")
        return self

    @model_validator(mode="after")
    def _nothing_pasted_into_images(self) -> "ModelConfig":
        if self.camera is not None and self.training.paste is not None:
            raise ValueError("training.paste puts objects into points only, not into images; remove one of the two")
        return self

    @model_validator(mode="after")
    def _points_fill_cells(self) -> "ModelConfig":
        if self.lidar is None:
            return self
        encoder = self.lidar.encoder
        if isinstance(encoder, PillarEncoderConfig):
            name, edge, possible = "pillar", encoder.pillar, (1, 2, 3)
        else:
            name, edge, possible = "voxel", encoder.voxel, (2 ** (len(encoder.stage_channels) - 1),)
        ratio = self.grid.cell / edge
        if all(abs(ratio - number) > 1e-6 for number in possible):
            raise ValueError(
                f"grid.cell is {ratio:g} times lidar.encoder.{name}; {', '.join(map(str, possible))} is possible"
            )
        return self

    @model_validator(mode="after")
    def _depths_come_from_somewhere(self) -> "ModelConfig":
        view = self.camera and self.camera.view
        if isinstance(view, LiftSplatConfig) and view.depth == "lidar" and self.lidar is None:
            raise ValueError("camera.view.depth: lidar needs a lidar; choose plain or camera_aware")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> ModelConfig:
    """Read a model's YAML; `overrides` are `key.subkey=value` strings of the command line's --set.

    UserError names the file and key of what is wrong.
    """
    values = read_mapping(path, "model", FOLDER, EXAMPLE)
    for override in overrides:
        _override(values, override)
    return parse_config(values, str(path))


def parse_config(values: dict, source: str) -> ModelConfig:
    """Check a mapping and make it a ModelConfig; `source` is named in the UserError."""
    return parse_section(ModelConfig, values, source, "model")


def dump_config(config: ModelConfig) -> str:
    """Write the YAML that `load_config` reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _override(values: dict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--set {override}: write key=value, for example training.epochs=5")
    *parents, last = key.split(".")
    section: object = values
    for parent in parents:
        section = section.get(parent) if isinstance(section, dict) else None
    # A key that the file leaves to its default may be set, too; one that nobody knows is an error of the model's.
    if not isinstance(section, dict) or not last:
        similar = did_you_mean_key(key, known_keys(ModelConfig)) if last else ""
        raise UserError(f"--set {key}: the configuration has no such key{similar}")
    try:
        section[last] = parse_yaml(text)
    except SurprisingYaml as error:
        raise UserError(f"--set {override}: {error.problem}") from None
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not YAML") from None

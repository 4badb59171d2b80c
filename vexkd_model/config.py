"""The complete description of a model: what `config/model/*.yaml` holds and every student package carries.

Frozen, checked at construction, and without inheritance: one file says everything. An unknown key or a bad value
is a UserError that names the file and the key.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vexkd_model.errors import UserError
from vexkd_model.types import CAMERAS, DETECTION_CLASSES, BevGrid

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GridConfig(_Section):
    """A square BEV grid, ±`extent` metres around base_link, of `cell` metres."""

    extent: Positive
    cell: Positive

    @model_validator(mode="after")
    def _divides(self) -> "GridConfig":
        self.grid()
        return self

    def grid(self) -> BevGrid:
        return BevGrid(-self.extent, self.extent, -self.extent, self.extent, self.cell)


class PillarEncoderConfig(_Section):
    """Points → low-level BEV map on the model's grid."""

    pillar: Positive = Field(description="pillar edge [m]; the grid's cell is a whole multiple of it")
    z_min: float
    z_max: float
    pillar_channels: Count
    channels: Count = Field(description="channels of the low-level map")


class BevEncoderConfig(_Section):
    """Low-level → high-level BEV map: one stage a resolution, each half of the one before."""

    stage_channels: tuple[Count, ...]
    stage_layers: tuple[Count, ...]
    lateral_channels: Count = Field(description="channels that each stage gives to the concatenated high-level map")

    @model_validator(mode="after")
    def _same_length(self) -> "BevEncoderConfig":
        if len(self.stage_channels) != len(self.stage_layers):
            raise ValueError("stage_channels and stage_layers differ in length")
        return self

    @property
    def channels(self) -> int:
        return self.lateral_channels * len(self.stage_channels)


class DetectionConfig(_Section):
    """CenterHead: tasks share one convolution; each class belongs to exactly one task."""

    tasks: tuple[tuple[Literal[DETECTION_CLASSES], ...], ...]  # type: ignore[valid-type]
    shared_channels: Count
    task_channels: Count
    loss_weight: Positive
    score_threshold: Annotated[float, Field(gt=0, lt=1)]
    candidates: Count = Field(description="best cells of each task that reach NMS")
    nms_iou: Annotated[float, Field(gt=0, lt=1)]
    max_detections: Annotated[int, Field(ge=1, le=500)]

    @model_validator(mode="after")
    def _each_class_once(self) -> "DetectionConfig":
        names = [name for task in self.tasks for name in task]
        if sorted(names) != sorted(DETECTION_CLASSES):
            raise ValueError(f"tasks must hold each of {', '.join(DETECTION_CLASSES)} once")
        return self


class SegmentationConfig(_Section):
    """SegmentationHead on the six map classes."""

    grid: GridConfig
    channels: Count
    loss_weight: Positive


class AugmentConfig(_Section):
    """BEV augmentation, drawn anew for every sample."""

    rotation: Annotated[float, Field(ge=0, description="± [rad]")]
    scale: Annotated[float, Field(ge=0, lt=1, description="1 ± this")]
    translation: Annotated[float, Field(ge=0, description="standard deviation [m]")]
    flip: bool


class ImageAugmentConfig(_Section):
    """Image augmentation, drawn anew for every image; the crop's place is drawn where the image is wider than it."""

    zoom: tuple[Positive, Positive] = Field(description="least and most, as ImageConfig.zoom")
    rotation: Annotated[float, Field(ge=0, description="± [rad]")]
    flip: bool

    @model_validator(mode="after")
    def _ordered(self) -> "ImageAugmentConfig":
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom is written as [least, most], not {list(self.zoom)}")
        return self


class ImageConfig(_Section):
    """What a student reads of its cameras: each image resized, then cropped at its bottom to width × height.

    BEVDet's and BEVFusion's for nuScenes' 1600×900: 704×256, zoom 0.48/0.44 = 1.09; in training a zoom of
    0.38/0.44 = 0.864 to 0.55/0.44 = 1.25, a rotation of ±5.4° = 0.0942, and flips.
    """

    width: Count
    height: Count
    zoom: Positive = Field(description="1 shows the whole width of the image, 2 half of it")
    cameras: tuple[Literal[CAMERAS], ...] = Field(CAMERAS, min_length=1)  # type: ignore[valid-type]
    augment: ImageAugmentConfig

    @model_validator(mode="after")
    def _each_camera_once(self) -> "ImageConfig":
        if list(self.cameras) != [name for name in CAMERAS if name in self.cameras]:
            raise ValueError(f"cameras must be some of {', '.join(CAMERAS)}, each once, in this order")
        return self


class PasteConfig(_Section):
    """Objects of other frames, pasted with their LiDAR points until each class has its number."""

    objects: dict[Literal[DETECTION_CLASSES], Count]  # type: ignore[valid-type]
    min_points: Count = Field(description="LiDAR points, of all sweeps, of an object worth pasting")
    off_for_last_epochs: Annotated[int, Field(ge=0)]


class TrainingConfig(_Section):
    epochs: Count
    batch_size: Count
    learning_rate: Positive = Field(description="peak of the one-cycle schedule")
    weight_decay: Annotated[float, Field(ge=0)]
    gradient_clip: Positive
    precision: Literal["32-true", "bf16-mixed"]
    seed: Annotated[int, Field(ge=0)]
    augment: AugmentConfig
    class_balanced: bool = Field(False, description="CBGS: frames drawn so that every class has an equal share")
    paste: PasteConfig | None = None

    @model_validator(mode="after")
    def _pastes_at_all(self) -> "TrainingConfig":
        if self.paste is not None and self.paste.off_for_last_epochs >= self.epochs:
            raise ValueError(f"paste.off_for_last_epochs must be less than epochs, {self.epochs}, or nothing is pasted")
        return self


class ModelConfig(_Section):
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    sensor: Literal["lidar"]
    sweeps: Annotated[int, Field(ge=1, le=10, description="LiDAR sweeps in a frame, the newest included")]
    grid: GridConfig
    encoder: PillarEncoderConfig
    bev: BevEncoderConfig
    detection: DetectionConfig
    segmentation: SegmentationConfig
    training: TrainingConfig
    images: ImageConfig | None = Field(None, description="what is read of the cameras; a LiDAR student reads nothing")

    @model_validator(mode="after")
    def _nothing_pasted_into_images(self) -> "ModelConfig":
        if self.images is not None and self.training.paste is not None:
            raise ValueError("training.paste puts objects into points only, not into images; remove one of the two")
        return self

    @model_validator(mode="after")
    def _pillars_fill_cells(self) -> "ModelConfig":
        ratio = self.grid.cell / self.encoder.pillar
        if round(ratio) not in (1, 2, 4) or abs(ratio - round(ratio)) > 1e-6:
            raise ValueError(f"grid.cell is {ratio:g} pillars of encoder.pillar; 1, 2 or 4 are possible")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> ModelConfig:
    """Read a model's YAML; `overrides` are `key.subkey=value` strings of the command line's --set."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration; models lie in config/model/") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold the keys of a model, like config/model/lidar_pillar_small.yaml")
    for override in overrides:
        _override(values, override)
    return parse_config(values, str(path))


def parse_config(values: dict, source: str) -> ModelConfig:
    """Check a mapping; `source` is named in the error."""
    try:
        return ModelConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "model"
        unknown = first["type"] == "extra_forbidden"
        message = "unknown key, remove it or correct its spelling" if unknown else first["msg"]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UserError(f"{source}: {key}: {message}{more}") from None


def dump_config(config: ModelConfig) -> str:
    """The YAML that `load_config` reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _override(values: dict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--set {override}: write key=value, for example training.epochs=5")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.get(parent) if isinstance(values, dict) else None
    if not isinstance(values, dict) or last not in values:
        raise UserError(f"--set {key}: the configuration has no such key")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not YAML") from None

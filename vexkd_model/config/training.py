"""Configuration of the training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, Positive, Section, Share
from vexkd_model.types import DETECTION_CLASSES, Precision


class AugmentConfig(Section):
    """BEV augmentation, drawn anew for every sample."""

    rotation: Annotated[float, Field(ge=0, description="± [rad]")]
    scale: Annotated[float, Field(ge=0, lt=1, description="1 ± this")]
    translation: Annotated[float, Field(ge=0, description="standard deviation [m]")]
    flip: bool
    off_for_last_epochs: Annotated[int, Field(ge=0)] = 0


class PasteConfig(Section):
    """Pasting of objects from other frames, with their LiDAR points, until each class has its number."""

    objects: dict[Literal[DETECTION_CLASSES], Count]  # type: ignore[valid-type]
    min_points: Count = Field(description="LiDAR points, of all sweeps, of an object worth pasting")
    off_for_last_epochs: Annotated[int, Field(ge=0)]


class SensorVarietyConfig(Section):
    """Augmentation by other sensors: each change is drawn independently, in a `share` of the samples."""

    share: Share = Field(0.5, description="of the samples, for each change")
    fewer_sweeps: bool = Field(True, description="one to all of the sweeps")
    dropped_beams: Annotated[float, Field(ge=0, lt=1, description="at most this share of the LiDAR's beams")] = 0.5
    dropped_points: Annotated[float, Field(ge=0, lt=1, description="at most this share of the points")] = 0.3
    intensity: Annotated[float, Field(ge=1, description="factor, or its inverse, at most")] = 1.5
    noise: Annotated[float, Field(ge=0, description="of positions, standard deviation, at most [m]")] = 0.02
    exposure: Annotated[float, Field(ge=1, description="of images, factor or its inverse, at most")] = 1.4


class ValidationConfig(Section):
    """Validation while a model is trained: AP by the official rule and map IoU on part of the dataset's last split."""

    every: Count = Field(5, description="epochs between two validations")
    frames: Count = Field(100, description="frames of the split, evenly spread over it; all where it has fewer")


class TrainingConfig(Section):
    """Training settings."""

    epochs: Count
    batch_size: Count = Field(description="frames, of each process")
    accumulate: Count = Field(1, description="batches whose gradients make one step")
    learning_rate: Positive = Field(description="peak of the schedule")
    backbone_rate: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="the image backbone's share of the learning rate"
    )
    schedule: Literal["one_cycle", "cosine"] = Field(
        "one_cycle", description="cosine: falls from the peak, after 500 steps of warm-up"
    )
    weight_decay: Annotated[float, Field(ge=0)]
    gradient_clip: Positive
    ema: Share | None = Field(
        None,
        description="share that a moving average of the weights keeps at each step; the "
        "average is what is evaluated and exported",
    )
    precision: Precision = Field(
        "auto", description="of convolutions and linear layers; auto: bfloat16 where the device has instructions for it"
    )
    validation: ValidationConfig | None = Field(
        None, description="null: none, which is what the training costs least with; {} for the defaults"
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 32, description="of 32 bits")]
    augment: AugmentConfig
    class_balanced: bool = Field(False, description="CBGS: frames drawn so that every class has an equal share")
    paste: PasteConfig | None = None
    sensor_variety: SensorVarietyConfig | None = Field(
        None, description="frames as other sensors of the same kind would have seen them"
    )
    sensor_dropout: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="of a model with two sensors: share of samples in which one of them, either, sees nothing"
    )

    @model_validator(mode="after")
    def _augments_at_all(self) -> "TrainingConfig":
        if self.augment.off_for_last_epochs > self.epochs:
            raise ValueError(f"augment.off_for_last_epochs must be at most epochs, {self.epochs}")
        return self

    @model_validator(mode="after")
    def _pastes_at_all(self) -> "TrainingConfig":
        if self.paste is not None and self.paste.off_for_last_epochs >= self.epochs:
            raise ValueError(f"paste.off_for_last_epochs must be less than epochs, {self.epochs}, or nothing is pasted")
        return self

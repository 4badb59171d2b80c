"""Configuration of the LiDAR input and the LiDAR encoder: points → low-level BEV map."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, Positive, Section


class PillarEncoderConfig(Section):
    """Dynamic pillars, then a stem of convolutions of which the first one steps from pillars to the model's cells."""

    kind: Literal["pillar"]
    pillar: Positive = Field(description="pillar edge [m]; the grid's cell is 1, 2 or 3 of them")
    z_min: float
    z_max: float
    pillar_channels: Count
    channels: Count = Field(description="channels of the low-level map")
    stem_layers: Count
    age_groups: Count = Field(
        1,
        description="points are pooled apart in so many groups by age, so that what moves can "
        "be seen to; needs sweep_interval",
    )


class VoxelEncoderConfig(Section):
    """Mean-VFE voxels and the SECOND sparse encoder; each stage but the last halves the resolution."""

    kind: Literal["voxel"]
    voxel: Positive = Field(description="horizontal voxel edge [m]; the grid's cell is 2^(stages − 1) of them")
    voxel_z: Positive = Field(description="voxel height [m]")
    z_min: float
    z_max: float
    stage_channels: Annotated[tuple[Count, ...], Field(min_length=2)]
    channels: Count = Field(description="channels a height layer of the last convolution; the map has them all")


class LidarConfig(Section):
    """LiDAR input and LiDAR encoder."""

    sweeps: Annotated[int, Field(ge=1, le=10, description="LiDAR sweeps in a frame, the newest included")]
    sweep_interval: Positive | None = Field(
        None,
        description="time between them [s]; a sweep that is nearer than about this to the one before it is left "
        "out. null: every sweep",
    )
    intensity_max: Positive = Field(
        255.0, description="greatest intensity of the sensor's points, which the encoder scales: 255, 1, …"
    )
    encoder: Annotated[PillarEncoderConfig | VoxelEncoderConfig, Field(discriminator="kind")]

    @property
    def max_age(self) -> float:
        """Age of the oldest sweep of a frame [s], where sweep_interval is given."""
        return (self.sweeps - 1) * (self.sweep_interval or 0.0)

    @model_validator(mode="after")
    def _ages_are_known(self) -> "LidarConfig":
        if getattr(self.encoder, "age_groups", 1) > 1 and not self.max_age:
            raise ValueError("encoder.age_groups: needs sweep_interval and more than one of sweeps; or write 1")
        return self

"""What a model reads of the LiDAR, and its encoder: points → low-level BEV map."""

from typing import Annotated, Literal

from pydantic import Field

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
    sweeps: Annotated[int, Field(ge=1, le=10, description="LiDAR sweeps in a frame, the newest included")]
    encoder: Annotated[PillarEncoderConfig | VoxelEncoderConfig, Field(discriminator="kind")]

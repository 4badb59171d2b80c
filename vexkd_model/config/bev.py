"""Configuration of the BEV maps: fusion of both sensors to the low-level map, BEV encoder to the high-level map."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, Section


class SecondConfig(Section):
    """SECOND's encoder: stages, each half the resolution of the one before, and its FPN."""

    kind: Literal["second"]
    stage_channels: tuple[Count, ...]
    stage_layers: tuple[Count, ...]
    lateral_channels: Count = Field(description="channels that each stage gives to the concatenated high-level map")

    @model_validator(mode="after")
    def _same_length(self) -> "SecondConfig":
        if len(self.stage_channels) != len(self.stage_layers):
            raise ValueError("stage_channels and stage_layers differ in length")
        return self


class ResNetBevConfig(Section):
    """BEVDet's encoder: two or more residual stages, the first and the last joined at the input's resolution."""

    kind: Literal["resnet"]
    stage_channels: Annotated[tuple[Count, ...], Field(min_length=2)]
    stage_blocks: tuple[Count, ...]
    channels: Count = Field(description="channels of the high-level map")

    @model_validator(mode="after")
    def _same_length(self) -> "ResNetBevConfig":
        if len(self.stage_channels) != len(self.stage_blocks):
            raise ValueError("stage_channels and stage_blocks differ in length")
        return self


class ConcatFusionConfig(Section):
    """BEVFusion's fusion: both maps concatenated, one convolution."""

    kind: Literal["concat"]
    channels: Count = Field(description="channels of the low-level map")


class ModalityGeneralFusionConfig(Section):
    """VeXKD's fusion: learned queries read both maps in the same way, by deformable attention."""

    kind: Literal["modality_general"]
    channels: Count = Field(description="channels of the queries and of the low-level map")
    blocks: Count
    heads: Count
    points: Count = Field(description="keys that a query reads, a head and a sensor")
    feedforward: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    recompute: bool = Field(
        description="in training, compute a block's activations again instead of keeping them: "
        "a third more work, a fraction of the memory"
    )

    @model_validator(mode="after")
    def _heads_share_the_channels(self) -> "ModalityGeneralFusionConfig":
        if self.channels % self.heads:
            raise ValueError(f"{self.channels} channels do not divide among {self.heads} heads")
        return self


FusionConfig = Annotated[ConcatFusionConfig | ModalityGeneralFusionConfig, Field(discriminator="kind")]

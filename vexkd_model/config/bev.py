"""From low-level to high-level BEV map."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, Section


class SecondConfig(Section):
    """SECOND's stages, each half the resolution of the one before, and its FPN."""

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
    """BEVDet's: three residual stages, the last and the first of them merged at the input's resolution."""

    kind: Literal["resnet"]
    stage_channels: Annotated[tuple[Count, ...], Field(min_length=3, max_length=3)]
    stage_blocks: Annotated[tuple[Count, ...], Field(min_length=3, max_length=3)]
    channels: Count = Field(description="channels of the high-level map")

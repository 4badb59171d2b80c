"""How the low-level BEV maps of LiDAR and cameras become one."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, Section


class ConcatFusionConfig(Section):
    """BEVFusion's: both maps side by side, one convolution."""

    kind: Literal["concat"]
    channels: Count = Field(description="channels of the low-level map")


class ModalityGeneralFusionConfig(Section):
    """VeXKD's: learned queries read both maps alike, by deformable attention."""

    kind: Literal["modality_general"]
    channels: Count = Field(description="channels of the queries and of the low-level map")
    blocks: Count
    heads: Count
    points: Count = Field(description="keys that a query reads, a head and a sensor")
    feedforward: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    recompute: bool = Field(description="in training, compute a block's activations again instead of keeping them: "
                                        "a third more work, a fraction of the memory")  # fmt: skip

    @model_validator(mode="after")
    def _heads_share_the_channels(self) -> "ModalityGeneralFusionConfig":
        if self.channels % self.heads:
            raise ValueError(f"{self.channels} channels do not divide among {self.heads} heads")
        return self


FusionConfig = Annotated[ConcatFusionConfig | ModalityGeneralFusionConfig, Field(discriminator="kind")]

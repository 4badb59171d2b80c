"""How a student is taught by a teacher's BEV maps. `vexkd train` leaves this section out, and no student carries it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, Positive, Section

Level = Literal["low", "high"]
Part = Literal["lidar", "camera", "bev", "detection", "segmentation"]
LEARNED_MASKS = ("fusion_queries", "random_queries")
BOX_MASKS = ("key_points", "gaussian")


class DistillationConfig(Section):
    """Defaults are the paper's where it states them: weight (λ), mask_weight (μ), mask_blocks, both levels. What is
    not the paper's is off: inherit."""

    levels: tuple[Level, ...] = Field(("low", "high"), description="maps that are compared; none only where another "
                                                                   "key teaches")
    masks: Literal["fusion_queries", "random_queries", "ones", "key_points", "gaussian", "activation"] = Field(
        "fusion_queries", description="where teacher and student are compared: learned, from the fusion's queries or "
                                      "from random ones; everywhere; at nine points a box (UniDistill); in a Gaussian "
                                      "around each box (BEVDistill); where the teacher's activations are large")
    loss: Literal["attention_transfer", "l1", "l2", "smooth_l1", "normalised_l2"] = Field(
        "attention_transfer", description="all but the first compare channels, through a convolution that fits the "
                                          "student's to the teacher's; normalised_l2 in units of the teacher's "
                                          "variance, and without the convolution where there are as many channels")
    weight: Positive = Field(2.0, description="of the feature losses in the student's loss, λ")
    mask_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="of the feature losses in the masks' loss, μ")
    mask_blocks: Count = Field(3, description="deformable attention blocks of a learned mask")
    mask_heads: Count = 8
    mask_points: Count = 4
    mask_feedforward: Count = 512
    mask_stop_epoch: Annotated[int, Field(ge=1)] | None = Field(
        None, description="masks learn in so many epochs, then stay as they are; null: they learn in all")
    inherit: tuple[Part, ...] = Field(
        (), description="parts that begin with the teacher's weights; a narrower BEV encoder, CenterHead or "
                        "segmentation head takes the channels of largest batch-norm scale (SparseKD)")

    @model_validator(mode="after")
    def _each_level_once(self) -> "DistillationConfig":
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("levels names a level twice")
        if len(set(self.inherit)) < len(self.inherit):
            raise ValueError("inherit names a part twice")
        return self

    @model_validator(mode="after")
    def _something_is_taught(self) -> "DistillationConfig":
        if not (self.levels or self.inherit):
            raise ValueError("levels is empty and no other key teaches; write [low, high]")
        return self

    @property
    def asks_teacher(self) -> bool:
        """Whether a training step needs the teacher's answer; inherited weights do not."""
        return bool(self.levels)

    @property
    def learns_masks(self) -> bool:
        return self.masks in LEARNED_MASKS

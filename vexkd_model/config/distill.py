"""Configuration of distillation. `vexkd train` leaves this section out, and no student package carries it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, Positive, Section, Share

Level = Literal["low", "high"]
Part = Literal["lidar", "camera", "bev", "detection", "segmentation"]
LEARNED_MASKS = ("fusion_queries", "random_queries")
BOX_MASKS = ("key_points", "gaussian")
Weight = Annotated[float, Field(ge=0)]


class ResponseConfig(Section):
    """Response distillation: the student's heads imitate the teacher's; 0 leaves a term out."""

    heatmap: Weight = Field(0.0, description="of the squared error of heatmaps at pivotal positions (SparseKD)")
    map: Weight = Field(0.0, description="of the cross-entropy of map segmentation towards the teacher's probabilities")

    @model_validator(mode="after")
    def _has_a_weight(self) -> "ResponseConfig":
        if not (self.heatmap or self.map):
            raise ValueError("heatmap and map are both 0; give one a weight, or write response: null")
        return self


class TeacherLabelsConfig(Section):
    """Labels from the teacher: its boxes that match no true box are labels of the student, too."""

    score: Share = Field(0.6, description="least score of such a box")
    weight: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the task loss with these labels; the rest is the task loss without them"
    )


class DistillationConfig(Section):
    """Distillation settings.

    Defaults are the paper's where it states them: weight (λ), mask_weight (μ), mask_blocks, both levels. What is not
    the paper's is off: inherit, response, teacher_labels, relation, depth.
    """

    levels: tuple[Level, ...] = Field(
        ("low", "high"), description="maps that are compared; none only where another key teaches"
    )
    masks: Literal["fusion_queries", "random_queries", "ones", "key_points", "gaussian", "activation"] = Field(
        "fusion_queries",
        description="where teacher and student are compared: learned, from the fusion's queries or "
        "from random ones; everywhere; at nine points a box (UniDistill); in a Gaussian "
        "around each box (BEVDistill); where the teacher's activations are large",
    )
    loss: Literal["attention_transfer", "l1", "l2", "smooth_l1", "normalised_l2"] = Field(
        "attention_transfer",
        description="all but the first compare channels, through a convolution that fits the "
        "student's to the teacher's; normalised_l2 in units of the teacher's "
        "variance, and without the convolution where there are as many channels",
    )
    weight: Positive = Field(2.0, description="of the feature losses in the student's loss, λ")
    mask_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="of the feature losses in the masks' loss, μ")
    mask_blocks: Count = Field(3, description="deformable attention blocks of a learned mask")
    mask_heads: Count = 8
    mask_points: Count = 4
    mask_feedforward: Count = 512
    mask_stride: Count = Field(
        1,
        description="cells of the BEV map between two queries of a learned mask, interpolated between them; "
        "1 is the paper's, 4 needs a sixteenth of the attention",
    )
    mask_stop_epoch: Annotated[int, Field(ge=1)] | None = Field(
        None, description="masks learn in so many epochs, then stay as they are; null: they learn in all"
    )
    inherit: tuple[Part, ...] = Field(
        (),
        description="parts that begin with the teacher's weights; a narrower BEV encoder, CenterHead or "
        "segmentation head takes the channels of largest batch-norm scale (SparseKD)",
    )

    response: ResponseConfig | None = None
    teacher_labels: TeacherLabelsConfig | None = None
    relation: Weight = Field(
        0.0,
        description="of the difference of similarities between nine points of each box on "
        "the high-level map (UniDistill)",
    )
    depth: Weight = Field(0.0, description="of the cross-entropy of a camera student's depths towards the teacher's")

    @model_validator(mode="after")
    def _each_level_once(self) -> "DistillationConfig":
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("levels names a level twice")
        if len(set(self.inherit)) < len(self.inherit):
            raise ValueError("inherit names a part twice")
        return self

    @model_validator(mode="after")
    def _something_is_taught(self) -> "DistillationConfig":
        if not (self.needs_teacher or self.inherit):
            raise ValueError("levels is empty and no other key teaches; write [low, high]")
        return self

    @property
    def needs_teacher(self) -> bool:
        """True if a training step needs the teacher's output; inherited weights do not."""
        return bool(self.levels or self.needs_heads or self.relation or self.depth)

    @property
    def needs_heads(self) -> bool:
        """True if a training step needs the teacher's heads."""
        return self.response is not None or self.teacher_labels is not None

    @property
    def learns_masks(self) -> bool:
        """True if masks have weights of their own."""
        return self.masks in LEARNED_MASKS

    @property
    def freezes_masks(self) -> bool:
        """True if masks stop learning before the end of the training."""
        return bool(self.levels) and self.learns_masks and self.mask_stop_epoch is not None

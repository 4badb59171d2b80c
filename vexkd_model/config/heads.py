"""Configuration of the task heads on the high-level map."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, GridConfig, Positive, Section, Share
from vexkd_model.types import DETECTION_CLASSES, SEGMENTATION_GRID

MaxDetections = Annotated[int, Field(ge=1, le=500, description="a frame; nuScenes takes 500")]


class RotatedNmsConfig(Section):
    """Suppression by IoU of footprints."""

    kind: Literal["rotated"]
    iou: Share
    scale: tuple[Positive, ...] | None = Field(
        None, description="factor on each class's length and width in this comparison (BEVDet's scale NMS)"
    )


class CircleNmsConfig(Section):
    """Suppression by distance of centres."""

    kind: Literal["circle"]
    radius: Positive = Field(description="centres nearer than this to a better one go [m]")


class TaskConfig(Section):
    """Task: classes that share a branch of the head and a non-maximum suppression."""

    classes: Annotated[tuple[Literal[DETECTION_CLASSES], ...], Field(min_length=1)]  # type: ignore[valid-type]
    nms: Annotated[RotatedNmsConfig | CircleNmsConfig, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _a_factor_a_class(self) -> "TaskConfig":
        scale = getattr(self.nms, "scale", None)
        if scale is not None and len(scale) != len(self.classes):
            raise ValueError(f"nms.scale holds {len(scale)} factors for {len(self.classes)} classes")
        return self


class CenterHeadConfig(Section):
    """CenterHead: tasks share one convolution; each class belongs to exactly one task."""

    kind: Literal["center"]
    tasks: tuple[TaskConfig, ...]
    shared_channels: Count
    task_channels: Count
    separate: bool = Field(
        description="true: a branch of two convolutions for each value, as published; false: one "
        "convolution a task for all of them, a sixth of the work"
    )
    axis: bool = Field(
        False,
        description="true: the line along which an object lies is predicted beside its heading, "
        "so that one seen from an unclear side is not turned half-way",
    )
    late_weights: dict[Literal["offset", "height", "size", "heading", "axis", "velocity"], Positive] = Field(
        {},
        description="factors on the published weights of the regression losses; they grow from 1 in the second "
        "quarter of the training, when objects are found",
    )
    loss_weight: Positive
    score_threshold: Share
    candidates: Count = Field(description="best cells of each task that reach NMS")
    task_detections: Count = Field(description="boxes of each task that leave NMS")
    max_detections: MaxDetections

    @model_validator(mode="after")
    def _each_class_once(self) -> "CenterHeadConfig":
        names = [name for task in self.tasks for name in task.classes]
        if sorted(names) != sorted(DETECTION_CLASSES):
            raise ValueError(f"tasks must hold each of {', '.join(DETECTION_CLASSES)} once")
        return self

    def class_ids(self) -> list[list[int]]:
        """Indices into DETECTION_CLASSES of each task's classes."""
        return [[DETECTION_CLASSES.index(name) for name in task.classes] for task in self.tasks]


class TransFusionConfig(Section):
    """TransFusionHead: proposals from a heatmap, one decoder layer, no NMS."""

    kind: Literal["transfusion"]
    channels: Count
    proposals: Count
    heads: Count
    feedforward: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    loss_weight: Positive
    score_threshold: Annotated[float, Field(ge=0, lt=1)]
    max_detections: MaxDetections


DetectionConfig = Annotated[CenterHeadConfig | TransFusionConfig, Field(discriminator="kind")]


class SegmentationConfig(Section):
    """SegmentationHead on the six map classes, on the one grid of map masks: a package states its map's grid."""

    grid: GridConfig
    channels: Count
    first_layer: Literal["map", "features"] = Field(
        "map",
        description="grid of the first convolution: map, as published, on features sampled at the map's cells; "
        "features, before they are sampled, at a third of the cost",
    )
    loss_weight: Positive

    @model_validator(mode="after")
    def _on_the_grid_of_the_masks(self) -> "SegmentationConfig":
        if self.grid.grid() != SEGMENTATION_GRID:
            raise ValueError("grid: map masks are drawn on {extent: 50.0, cell: 0.5} alone; write that")
        return self

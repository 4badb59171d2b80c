"""Build the task heads from the configuration."""

from torch import nn
from typing_extensions import assert_never

from vexkd_model.config.heads import CenterHeadConfig, SegmentationConfig, TransFusionConfig
from vexkd_model.heads.center import CenterHead
from vexkd_model.heads.segmentation import SegmentationHead
from vexkd_model.heads.transfusion import TransFusionHead
from vexkd_model.types import BevGrid


def build_detection_head(config: CenterHeadConfig | TransFusionConfig, in_channels: int) -> nn.Module:
    """Build a module (B, in_channels, Y, X) → list of TaskMaps (center) or TransFusionOutput (transfusion)."""
    match config:
        case CenterHeadConfig() as c:
            return CenterHead(in_channels, c.shared_channels, c.task_channels, [len(task.classes) for task in c.tasks],
                              c.separate, c.axis)
        case TransFusionConfig() as c:
            return TransFusionHead(in_channels, c.channels, c.proposals, c.heads, c.feedforward, c.dropout)
        case _:
            assert_never(config)


def build_segmentation_head(config: SegmentationConfig, in_channels: int, grid: BevGrid) -> SegmentationHead:
    """Build a module (B, in_channels, Y, X) on `grid` → logits (B, 6, Y', X') on the configuration's own grid."""
    return SegmentationHead(in_channels, config.channels, grid, config.grid.grid(), config.first_layer == "features")

"""Build the fusion of two sensors' maps from the configuration."""

from collections.abc import Mapping

from typing_extensions import assert_never

from vexkd_model.config.fusion import ConcatFusionConfig, ModalityGeneralFusionConfig
from vexkd_model.fusion.concat import ConcatFusion
from vexkd_model.fusion.modality_general import ModalityGeneralFusion
from vexkd_model.types import BevGrid


def build_fusion(config: ConcatFusionConfig | ModalityGeneralFusionConfig, in_channels: Mapping[str, int],
                 grid: BevGrid) -> ConcatFusion | ModalityGeneralFusion:
    """Maps on `grid` of sensors with so many channels → one map, as the fusion's file says."""
    match config:
        case ConcatFusionConfig() as c:
            return ConcatFusion(in_channels, c.channels)
        case ModalityGeneralFusionConfig() as c:
            return ModalityGeneralFusion(grid, in_channels, c.channels, c.blocks, c.heads, c.points, c.feedforward,
                                         c.dropout, c.recompute)
        case _:
            assert_never(config)

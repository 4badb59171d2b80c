"""Build the BEV encoder from the configuration."""

from torch import nn
from typing_extensions import assert_never

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.bev.resnet import ResNetBevEncoder
from vexkd_model.config.bev import ResNetBevConfig, SecondConfig


def build_bev_encoder(config: SecondConfig | ResNetBevConfig, in_channels: int) -> nn.Module:
    """Build a module (B, in_channels, Y, X) → (B, .channels, Y, X)."""
    match config:
        case SecondConfig() as c:
            return BevEncoder(in_channels, c.stage_channels, c.stage_layers, c.lateral_channels)
        case ResNetBevConfig() as c:
            return ResNetBevEncoder(in_channels, c.stage_channels, c.stage_blocks, c.channels)
        case _:
            assert_never(config)

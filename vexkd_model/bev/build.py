"""The BEV encoder that a configuration describes."""

from torch import nn

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.bev.resnet import ResNetBevEncoder
from vexkd_model.config.bev import ResNetBevConfig, SecondConfig


def build_bev_encoder(config: SecondConfig | ResNetBevConfig, in_channels: int) -> nn.Module:
    """(B, in_channels, Y, X) → (B, .channels, Y, X)."""
    match config:
        case SecondConfig() as c:
            return BevEncoder(in_channels, c.stage_channels, c.stage_layers, c.lateral_channels)
        case ResNetBevConfig() as c:
            return ResNetBevEncoder(in_channels, c.stage_channels, c.stage_blocks, c.channels)

"""The LiDAR encoder that a configuration describes."""

from torch import nn

from vexkd_model.config.lidar import LidarConfig, PillarEncoderConfig, VoxelEncoderConfig
from vexkd_model.lidar.pillars import PillarEncoder
from vexkd_model.lidar.sparse_encoder import VoxelEncoder
from vexkd_model.types import BevGrid


def build_lidar_encoder(config: LidarConfig, grid: BevGrid) -> nn.Module:
    """(points (N, 5), sample (N,), batch size) → (B, .channels, Y, X) on `grid`."""
    match config.encoder:
        case PillarEncoderConfig() as c:
            return PillarEncoder(grid, c.pillar, c.z_min, c.z_max, c.pillar_channels, c.channels, c.stem_layers,
                                 c.age_groups, config.max_age)
        case VoxelEncoderConfig() as c:
            return VoxelEncoder(grid, c.voxel, c.voxel_z, c.z_min, c.z_max, c.stage_channels, c.channels)

"""BEV model of teachers and students: sensors → low-level BEV map → high-level BEV map → task heads.

The `build_*` functions below the model are the whole assembly; cameras have theirs in camera/build.py.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn
from typing_extensions import assert_never

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.bev.resnet import ResNetBevEncoder
from vexkd_model.camera.build import build_camera_encoder
from vexkd_model.camera.encoder import CameraEncoder, ViewGeometry
from vexkd_model.config import ModelConfig
from vexkd_model.config.bev import ConcatFusionConfig, ModalityGeneralFusionConfig, ResNetBevConfig, SecondConfig
from vexkd_model.config.heads import CenterHeadConfig, SegmentationConfig, TransFusionConfig
from vexkd_model.config.lidar import LidarConfig, PillarEncoderConfig, VoxelEncoderConfig
from vexkd_model.data.batch import SensorBatch
from vexkd_model.fusion.concat import ConcatFusion
from vexkd_model.fusion.modality_general import ModalityGeneralFusion
from vexkd_model.heads.center import CenterHead, TaskMaps
from vexkd_model.heads.segmentation import SegmentationHead
from vexkd_model.heads.transfusion import TransFusionHead, TransFusionOutput
from vexkd_model.lidar.pillars import PillarEncoder
from vexkd_model.lidar.sparse_encoder import VoxelEncoder
from vexkd_model.types import BevGrid


class BevFeatures(NamedTuple):
    """BEV maps of both levels, which distillation compares; each (B, C, Y, X)."""

    low: Tensor
    high: Tensor


class ModelOutput(NamedTuple):
    """Output of a BevModel for B frames; None for what it does not have.

    features: both BEV levels. detection: output of its head, one TaskMaps per task of a CenterHead. segmentation:
    logits (B, 6, Y', X'). depth: logits (B, N, D, h, w) of each camera's pixels.
    """

    features: BevFeatures
    detection: list[TaskMaps] | TransFusionOutput | None
    segmentation: Tensor | None
    depth: Tensor | None


class BevModel(nn.Module):
    """Model of BEV perception: SensorBatch → ModelOutput. None for a sensor, fusion or head that it does not have."""

    def __init__(
        self,
        lidar: PillarEncoder | VoxelEncoder | None,
        camera: CameraEncoder | None,
        fusion: ConcatFusion | ModalityGeneralFusion | None,
        bev: BevEncoder | ResNetBevEncoder,
        detection: CenterHead | TransFusionHead | None,
        segmentation: SegmentationHead | None,
    ) -> None:
        super().__init__()
        self.lidar, self.camera, self.fusion = lidar, camera, fusion
        self.bev, self.detection, self.segmentation = bev, detection, segmentation

    def forward(self, sensors: SensorBatch, geometry: ViewGeometry | None = None) -> ModelOutput:
        """Predict B frames; geometry: a kept result of `camera.geometry(sensors.cameras)` for the same calibration."""
        features, depth = self.maps(sensors, geometry)
        return ModelOutput(features, *self.heads(features.high), depth)

    def maps(self, sensors: SensorBatch, geometry: ViewGeometry | None = None) -> tuple[BevFeatures, Tensor | None]:
        """Compute `features` and `depth` of a ModelOutput."""
        low, depth = self._low(sensors, geometry)
        return BevFeatures(low, self.bev(low)), depth

    def heads(self, high: Tensor) -> tuple[list[TaskMaps] | TransFusionOutput | None, Tensor | None]:
        """Compute `detection` and `segmentation` of a ModelOutput from the high-level map (B, C, Y, X)."""
        return self.detection and self.detection(high), self.segmentation and self.segmentation(high)

    def sensor_maps(
        self, sensors: SensorBatch, geometry: ViewGeometry | None = None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Compute the map (B, C, Y, X) of each sensor before fusion, by name, and `depth` of a ModelOutput."""
        maps, depth = {}, None
        if self.lidar is not None:
            maps["lidar"] = self.lidar(sensors.points, sensors.sample, sensors.size)
        if self.camera is not None:
            maps["camera"], depth = self.camera(sensors, geometry)
        return maps, depth

    def _low(self, sensors: SensorBatch, geometry: ViewGeometry | None) -> tuple[Tensor, Tensor | None]:
        maps, depth = self.sensor_maps(sensors, geometry)
        if self.fusion is None:
            (low,) = maps.values()
            return low, depth
        return self.fusion(maps, sensors.present()), depth


def build_model(config: ModelConfig) -> BevModel:
    """Build the configured model with random weights."""
    grid = config.grid.grid()
    lidar = config.lidar and build_lidar_encoder(config.lidar, grid)
    camera = config.camera and build_camera_encoder(config.camera, grid)
    channels = {name: encoder.channels for name, encoder in (("lidar", lidar), ("camera", camera)) if encoder}
    fusion = config.fusion and build_fusion(config.fusion, channels, grid)
    bev = build_bev_encoder(config.bev, fusion.channels if fusion else next(iter(channels.values())))
    return BevModel(
        lidar,
        camera,
        fusion,
        bev,
        config.detection and build_detection_head(config.detection, bev.channels),
        config.segmentation
        and build_segmentation_head(config.segmentation, bev.channels, grid, config.network_from_base),
    )


def build_lidar_encoder(config: LidarConfig, grid: BevGrid) -> PillarEncoder | VoxelEncoder:
    """Build a module: points (N, 5), sample (N,), batch size → (B, .channels, Y, X) on `grid`."""
    match config.encoder:
        case PillarEncoderConfig() as c:
            return PillarEncoder(
                grid,
                c.pillar,
                c.z_min,
                c.z_max,
                c.pillar_channels,
                c.channels,
                c.stem_layers,
                c.age_groups,
                config.max_age,
                config.intensity_max,
            )
        case VoxelEncoderConfig() as c:
            return VoxelEncoder(
                grid,
                c.voxel,
                c.voxel_z,
                c.z_min,
                c.z_max,
                c.stage_channels,
                c.channels,
                intensity_max=config.intensity_max,
            )
        case _:
            assert_never(config.encoder)


def build_fusion(
    config: ConcatFusionConfig | ModalityGeneralFusionConfig, in_channels: Mapping[str, int], grid: BevGrid
) -> ConcatFusion | ModalityGeneralFusion:
    """Build a module: maps (B, in_channels of the sensor, Y, X) on `grid` by sensor → (B, .channels, Y, X)."""
    match config:
        case ConcatFusionConfig() as c:
            return ConcatFusion(in_channels, c.channels)
        case ModalityGeneralFusionConfig() as c:
            return ModalityGeneralFusion(
                grid, in_channels, c.channels, c.blocks, c.heads, c.points, c.feedforward, c.dropout, c.recompute
            )
        case _:
            assert_never(config)


def build_bev_encoder(config: SecondConfig | ResNetBevConfig, in_channels: int) -> BevEncoder | ResNetBevEncoder:
    """Build a module: (B, in_channels, Y, X) → (B, .channels, Y, X)."""
    match config:
        case SecondConfig() as c:
            return BevEncoder(in_channels, c.stage_channels, c.stage_layers, c.lateral_channels)
        case ResNetBevConfig() as c:
            return ResNetBevEncoder(in_channels, c.stage_channels, c.stage_blocks, c.channels)
        case _:
            assert_never(config)


def build_detection_head(
    config: CenterHeadConfig | TransFusionConfig, in_channels: int
) -> CenterHead | TransFusionHead:
    """Build a module: (B, in_channels, Y, X) → list of TaskMaps (center) or TransFusionOutput (transfusion)."""
    match config:
        case CenterHeadConfig() as c:
            return CenterHead(
                in_channels,
                c.shared_channels,
                c.task_channels,
                [len(task.classes) for task in c.tasks],
                c.separate,
                c.axis,
            )
        case TransFusionConfig() as c:
            return TransFusionHead(in_channels, c.channels, c.proposals, c.heads, c.feedforward, c.dropout)
        case _:
            assert_never(config)


def build_segmentation_head(
    config: SegmentationConfig, in_channels: int, grid: BevGrid, network_from_base: np.ndarray | None = None
) -> SegmentationHead:
    """Build a module: (B, in_channels, Y, X) on `grid` → logits (B, 6, Y', X') on the configuration's own grid.

    network_from_base: to the frame of `grid`, None where that is base_link; the result is always in base_link.
    """
    late = config.first_layer == "features"
    return SegmentationHead(in_channels, config.channels, grid, config.grid.grid(), late, network_from_base)

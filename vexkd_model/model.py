"""BEV model of teachers and students: sensors → low-level BEV map → high-level BEV map → task heads."""

from typing import NamedTuple

from torch import Tensor, nn

from vexkd_model.bev.build import build_bev_encoder
from vexkd_model.camera.build import build_camera_encoder
from vexkd_model.camera.encoder import CameraEncoder
from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import SensorBatch
from vexkd_model.fusion.build import build_fusion
from vexkd_model.heads.build import build_detection_head, build_segmentation_head
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.lidar.build import build_lidar_encoder


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

    def __init__(self, lidar: nn.Module | None, camera: CameraEncoder | None, fusion: nn.Module | None,
                 bev: nn.Module, detection: nn.Module | None, segmentation: nn.Module | None) -> None:
        super().__init__()
        self.lidar, self.camera, self.fusion = lidar, camera, fusion
        self.bev, self.detection, self.segmentation = bev, detection, segmentation

    def forward(self, sensors: SensorBatch, geometry: object | None = None) -> ModelOutput:
        """Predict B frames; geometry: a kept result of `camera.geometry(sensors.cameras)` for the same calibration."""
        features, depth = self.maps(sensors, geometry)
        return ModelOutput(features, *self.heads(features.high), depth)

    def maps(self, sensors: SensorBatch, geometry: object | None = None) -> tuple[BevFeatures, Tensor | None]:
        """Compute `features` and `depth` of a ModelOutput."""
        low, depth = self._low(sensors, geometry)
        return BevFeatures(low, self.bev(low)), depth

    def heads(self, high: Tensor) -> tuple[list[TaskMaps] | TransFusionOutput | None, Tensor | None]:
        """Compute `detection` and `segmentation` of a ModelOutput from the high-level map (B, C, Y, X)."""
        return self.detection and self.detection(high), self.segmentation and self.segmentation(high)

    def sensor_maps(self, sensors: SensorBatch,
                    geometry: object | None = None) -> tuple[dict[str, Tensor], Tensor | None]:
        """Compute the map (B, C, Y, X) of each sensor before fusion, by name, and `depth` of a ModelOutput."""
        maps, depth = {}, None
        if self.lidar is not None:
            maps["lidar"] = self.lidar(sensors.points, sensors.sample, sensors.size)
        if self.camera is not None:
            maps["camera"], depth = self.camera(sensors, geometry)
        return maps, depth

    def _low(self, sensors: SensorBatch, geometry: object | None) -> tuple[Tensor, Tensor | None]:
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
    fusion = config.fusion and build_fusion(config.fusion, {"lidar": lidar.channels, "camera": camera.channels}, grid)
    bev = build_bev_encoder(config.bev, (fusion or camera or lidar).channels)
    return BevModel(
        lidar, camera, fusion, bev,
        config.detection and build_detection_head(config.detection, bev.channels),
        config.segmentation and build_segmentation_head(config.segmentation, bev.channels, grid))

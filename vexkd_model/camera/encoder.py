"""The camera encoder: images of N cameras → the low-level BEV map.

backbone → neck → view transform for each moment; a student with history encodes earlier moments too, moves their maps
by the vehicle's motion and puts them beside the present one.
"""

import torch
from torch import Tensor, nn

from vexkd_model.camera.backbone import ImageBackbone
from vexkd_model.camera.temporal import FrameEncoder, TemporalFusion, align
from vexkd_model.camera.views import BevFormerView, CameraFeatures, LiftSplatView, ViewGeometry
from vexkd_model.data.batch import CameraBatch, SensorBatch
from vexkd_model.types import BevGrid


class CameraEncoder(nn.Module):
    """SensorBatch → CameraFeatures with `channels` channels. history: None for a student without."""

    def __init__(self, backbone: ImageBackbone, neck: nn.Module, view: LiftSplatView | BevFormerView,
                 history: "History | None", channels: int) -> None:
        super().__init__()
        self.backbone, self.neck, self.view, self.history = backbone, neck, view, history
        self.channels = channels

    def geometry(self, cameras: CameraBatch) -> ViewGeometry:
        """Where each camera looks in the BEV map; it may be kept as long as calibration and presence stay the same."""
        return self.view.geometry(cameras)

    def forward(self, sensors: SensorBatch, geometry: ViewGeometry | None = None) -> CameraFeatures:
        now = self._moment(sensors, geometry)
        if self.history is None:
            return now
        with torch.no_grad():  # as published: the present frame alone teaches the encoder
            past = [self._moment(SensorBatch(sensors.points, sensors.sample, sensors.size, moment.cameras)).bev
                    for moment in sensors.past]
        return CameraFeatures(self.history(now.bev, past, sensors), now.depth)

    def _moment(self, sensors: SensorBatch, geometry: ViewGeometry | None = None) -> CameraFeatures:
        cameras = sensors.cameras
        levels = self.neck(self.backbone(cameras.images.flatten(0, 1)))
        features = [level.unflatten(0, cameras.present.shape) for level in levels]
        return self.view(features, sensors, self.geometry(cameras) if geometry is None else geometry)


class History(nn.Module):
    """Earlier maps beside the present one: (B, C, Y, X) each → (B, .channels, Y, X) on `grid`."""

    def __init__(self, channels: int, frames: int, grid: BevGrid) -> None:
        super().__init__()
        self.grid = grid
        self.encoder, self.fusion = FrameEncoder(channels), TemporalFusion(channels, frames)
        self.channels = self.fusion.channels

    def forward(self, now: Tensor, past: list[Tensor], sensors: SensorBatch) -> Tensor:
        with torch.no_grad():
            aligned = [align(self.encoder(bev), moment.now_from_then, self.grid)
                       for bev, moment in zip(past, sensors.past, strict=True)]
        present = torch.stack([moment.present for moment in sensors.past], dim=1)
        return self.fusion(self.encoder(now), aligned, present)

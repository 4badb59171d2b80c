"""Camera encoder: images of N cameras → the low-level BEV map.

backbone → neck → view transform for each moment; a student with history encodes earlier moments too, moves their maps
by the vehicle's motion and puts them beside the present one.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vexkd_model.camera.backbone import ImageBackbone
from vexkd_model.camera.bevformer import BevFormer
from vexkd_model.camera.depth import depth_images
from vexkd_model.camera.depth_nets import CameraAwareDepthNet, LidarDepthNet, PlainDepthNet
from vexkd_model.camera.lift_splat import BevDownsample, LiftGeometry, LiftSplat
from vexkd_model.camera.pillar_points import PillarGeometry
from vexkd_model.camera.temporal import FrameEncoder, TemporalFusion, align
from vexkd_model.data.batch import CameraBatch, SensorBatch
from vexkd_model.types import BevGrid

ViewGeometry = LiftGeometry | PillarGeometry


class CameraFeatures(NamedTuple):
    """Output of a view transform.

    bev: (B, C, Y, X). depth: logits (B, N, D, h, w) of the present images, None from a view without depths.
    """

    bev: Tensor
    depth: Tensor | None


class LiftSplatView(nn.Module):
    """View transform by lift-splat: one feature map (B, N, C, h, w) of each camera → CameraFeatures."""

    def __init__(
        self,
        depth_net: PlainDepthNet | CameraAwareDepthNet | LidarDepthNet,
        splat: LiftSplat,
        downsample: BevDownsample | None,
    ) -> None:
        super().__init__()
        self.depth_net, self.splat, self.downsample = depth_net, splat, downsample

    def geometry(self, cameras: CameraBatch) -> LiftGeometry:
        """Find the BEV cell of every frustum cell; valid until calibration or presence change."""
        height, width = cameras.images.shape[-2:]
        return self.splat.geometry(cameras, (height // self.splat.stride, width // self.splat.stride))

    def forward(
        self, features: list[Tensor], sensors: SensorBatch, cameras: CameraBatch, geometry: LiftGeometry
    ) -> CameraFeatures:
        if isinstance(self.depth_net, LidarDepthNet):
            returns = depth_images(sensors.points, sensors.sample, cameras)
            logits, context = self.depth_net(features[0], cameras, returns)
        else:
            logits, context = self.depth_net(features[0], cameras)
        bev = self.splat(logits.float().softmax(dim=2), context, geometry)
        return CameraFeatures(self.downsample(bev) if self.downsample is not None else bev, logits)


class BevFormerView(nn.Module):
    """View transform by BEV queries: feature maps (B, N, C, h, w) of several levels → CameraFeatures."""

    def __init__(self, transformer: BevFormer) -> None:
        super().__init__()
        self.transformer = transformer

    def geometry(self, cameras: CameraBatch) -> PillarGeometry:
        """Project the pillars of all BEV cells into the images; valid until the calibration changes."""
        height, width = cameras.images.shape[-2:]
        return self.transformer.geometry(cameras, (height, width))

    def forward(
        self, features: list[Tensor], sensors: SensorBatch, cameras: CameraBatch, geometry: PillarGeometry
    ) -> CameraFeatures:
        return CameraFeatures(self.transformer(features, cameras, geometry), None)


class CameraEncoder(nn.Module):
    """Images to BEV map: SensorBatch → CameraFeatures with `channels` channels. history: None for a model without."""

    def __init__(
        self,
        backbone: ImageBackbone,
        neck: nn.Module,
        view: LiftSplatView | BevFormerView,
        history: "History | None",
        channels: int,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.view, self.history = backbone, neck, view, history
        self.channels = channels

    def geometry(self, cameras: CameraBatch) -> ViewGeometry:
        """Compute where each camera looks in the BEV map; valid until calibration or presence change."""
        return self.view.geometry(cameras)

    def forward(self, sensors: SensorBatch, geometry: ViewGeometry | None = None) -> CameraFeatures:
        """Encode B frames; geometry: a kept result of `geometry` for the same calibration and presence."""
        now = self._moment(sensors, geometry)
        if self.history is None:
            return now
        with torch.no_grad():  # as published: the present frame alone teaches the encoder
            past = [
                self._moment(SensorBatch(sensors.points, sensors.sample, sensors.size, moment.cameras)).bev
                for moment in sensors.past
            ]
        return CameraFeatures(self.history(now.bev, past, sensors), now.depth)

    def _moment(self, sensors: SensorBatch, geometry: ViewGeometry | None = None) -> CameraFeatures:
        cameras = sensors.cameras
        assert cameras is not None, "a model with a camera encoder reads cameras"
        levels = self.neck(self.backbone(cameras.images.flatten(0, 1)))
        features = [level.unflatten(0, cameras.present.shape) for level in levels]
        return self.view(features, sensors, cameras, self.geometry(cameras) if geometry is None else geometry)


class History(nn.Module):
    """Fusion of earlier maps with the present one: (B, C, Y, X) each → (B, .channels, Y, X) on `grid`."""

    def __init__(self, channels: int, frames: int, grid: BevGrid) -> None:
        super().__init__()
        self.grid = grid
        self.encoder, self.fusion = FrameEncoder(channels), TemporalFusion(channels, frames)
        self.channels = self.fusion.channels

    def forward(self, now: Tensor, past: list[Tensor], sensors: SensorBatch) -> Tensor:
        with torch.no_grad():
            aligned = [
                align(self.encoder(bev), moment.now_from_then, self.grid)
                for bev, moment in zip(past, sensors.past, strict=True)
            ]
        present = torch.stack([moment.present for moment in sensors.past], dim=1)
        return self.fusion(self.encoder(now), aligned, present)

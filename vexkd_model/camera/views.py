"""View transforms as the camera encoder uses them: image features → BEV map, by a geometry that may be kept."""

from typing import NamedTuple

from torch import Tensor, nn

from vexkd_model.camera.bevformer import BevFormer
from vexkd_model.camera.depth import depth_images
from vexkd_model.camera.depth_nets import CameraAwareDepthNet, LidarDepthNet, PlainDepthNet
from vexkd_model.camera.lift_splat import BevDownsample, LiftGeometry, LiftSplat
from vexkd_model.camera.pillar_points import PillarGeometry
from vexkd_model.data.batch import CameraBatch, SensorBatch

ViewGeometry = LiftGeometry | PillarGeometry


class CameraFeatures(NamedTuple):
    """bev: (B, C, Y, X). depth: logits (B, N, D, h, w) of the present images, None from a view without depths."""

    bev: Tensor
    depth: Tensor | None


class LiftSplatView(nn.Module):
    """One feature map (B, N, C, h, w) of each camera → CameraFeatures."""

    def __init__(self, depth_net: PlainDepthNet | CameraAwareDepthNet | LidarDepthNet, splat: LiftSplat,
                 downsample: BevDownsample | None) -> None:
        super().__init__()
        self.depth_net, self.splat, self.downsample = depth_net, splat, downsample

    def geometry(self, cameras: CameraBatch) -> LiftGeometry:
        height, width = cameras.images.shape[-2:]
        return self.splat.geometry(cameras, (height // self.splat.stride, width // self.splat.stride))

    def forward(self, features: list[Tensor], sensors: SensorBatch, geometry: LiftGeometry) -> CameraFeatures:
        returns = ()
        if isinstance(self.depth_net, LidarDepthNet):
            returns = (depth_images(sensors.points, sensors.sample, sensors.cameras),)
        logits, context = self.depth_net(features[0], sensors.cameras, *returns)
        bev = self.splat(logits.float().softmax(dim=2), context, geometry)
        return CameraFeatures(self.downsample(bev) if self.downsample is not None else bev, logits)


class BevFormerView(nn.Module):
    """Feature maps (B, N, C, h, w) of several levels → CameraFeatures."""

    def __init__(self, transformer: BevFormer) -> None:
        super().__init__()
        self.transformer = transformer

    def geometry(self, cameras: CameraBatch) -> PillarGeometry:
        height, width = cameras.images.shape[-2:]
        return self.transformer.geometry(cameras, (height, width))

    def forward(self, features: list[Tensor], sensors: SensorBatch, geometry: PillarGeometry) -> CameraFeatures:
        return CameraFeatures(self.transformer(features, sensors.cameras, geometry), None)

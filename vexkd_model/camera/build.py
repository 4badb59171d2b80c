"""Build the camera encoder from the configuration."""

from dataclasses import replace

from typing_extensions import assert_never

from vexkd_model.camera.backbone import ImageBackbone
from vexkd_model.camera.bevformer import BevFormer
from vexkd_model.camera.depth import DepthBins
from vexkd_model.camera.depth_nets import CameraAwareDepthNet, LidarDepthNet, PlainDepthNet
from vexkd_model.camera.encoder import BevFormerView, CameraEncoder, History, LiftSplatView
from vexkd_model.camera.fpn import FPN, ConcatFPN, FinestFPN
from vexkd_model.camera.lift_splat import BevDownsample, LiftSplat
from vexkd_model.camera.pretrained import load_backbone_weights
from vexkd_model.config.camera import BevFormerConfig, CameraConfig, LiftSplatConfig
from vexkd_model.types import BevGrid

RANDOM = "random"  # what backbone.weights says where nothing is loaded


def build_camera_encoder(config: CameraConfig, grid: BevGrid) -> CameraEncoder:
    """Build a module: SensorBatch → a map of `.channels` channels on `grid`. See also `load_pretrained`."""
    match config.view:
        case LiftSplatConfig() as view:
            return _lift_splat_encoder(config, view, grid)
        case BevFormerConfig() as view:
            return _bevformer_encoder(config, view, grid)
        case _:
            assert_never(config.view)


def load_pretrained(encoder: CameraEncoder, config: CameraConfig) -> None:
    """Load the backbone's pretrained weights, at the start of a training; runs and packages hold their own weights."""
    if config.backbone.weights != RANDOM:
        load_backbone_weights(encoder.backbone, config.backbone.weights)


def _backbone(config: CameraConfig, stages: list[int]) -> ImageBackbone:
    chosen = config.backbone
    stages = [stage for stage in stages if stage <= chosen.stages]
    return ImageBackbone(chosen.name, stages, chosen.frozen_norms, chosen.recompute)


def _lift_splat_encoder(config: CameraConfig, view: LiftSplatConfig, grid: BevGrid) -> CameraEncoder:
    bins = DepthBins(view.bins.start, view.bins.stop, view.bins.step)
    splat_grid = replace(grid, cell=grid.cell / view.finer)
    if view.stride == 16:  # BEVDet's
        backbone = _backbone(config, [3, 4])
        neck = FinestFPN(backbone.channels, view.neck_channels)
    else:  # BEVFusion's
        backbone = _backbone(config, [2, 3, 4])
        neck = ConcatFPN(backbone.channels, view.neck_channels)
    match view.depth:
        case "plain":
            depth_net = PlainDepthNet(view.neck_channels, bins.count, view.channels)
        case "camera_aware":
            depth_net = CameraAwareDepthNet(view.neck_channels, view.depth_channels, bins.count, view.channels)
        case "lidar":
            depth_net = LidarDepthNet(view.neck_channels, bins.count, view.channels, view.stride)
        case _:
            assert_never(view.depth)
    transform = LiftSplatView(
        depth_net,
        LiftSplat(splat_grid, bins, view.stride, view.z_min, view.z_max),
        BevDownsample(view.channels) if view.finer == 2 else None,
    )
    history = History(view.channels, config.past_frames, grid) if config.past_frames else None
    return CameraEncoder(backbone, neck, transform, history, history.channels if history else view.channels)


def _bevformer_encoder(config: CameraConfig, view: BevFormerConfig, grid: BevGrid) -> CameraEncoder:
    backbone = _backbone(config, [2, 3, 4][: view.levels])
    neck = FPN(backbone.channels, view.channels, view.levels - len(backbone.channels))
    transformer = BevFormer(
        grid,
        [view.channels] * view.levels,
        len(config.images.cameras),
        view.channels,
        view.layers,
        view.heads,
        view.points_z,
        view.feedforward,
        view.dropout,
        view.recompute,
    )
    return CameraEncoder(backbone, neck, BevFormerView(transformer), None, view.channels)

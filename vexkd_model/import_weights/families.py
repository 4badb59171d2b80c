"""Published families of checkpoints: their signature in tensor names, their parts, and notes for the user."""

from collections.abc import Collection
from typing import NamedTuple, cast

from torch import nn

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.bev.resnet import ResNetBevEncoder
from vexkd_model.camera.encoder import CameraEncoder, LiftSplatView
from vexkd_model.camera.fpn import ConcatFPN, FinestFPN
from vexkd_model.config import ModelConfig
from vexkd_model.config.frame import FrameConfig
from vexkd_model.config.heads import CenterHeadConfig
from vexkd_model.heads.center import CenterHead
from vexkd_model.heads.transfusion import TransFusionHead
from vexkd_model.import_weights import bev, camera, heads, lidar
from vexkd_model.import_weights.layers import Change, Layers, transpose_xy, unchanged
from vexkd_model.lidar.pillars import PillarEncoder
from vexkd_model.lidar.sparse_encoder import VoxelEncoder
from vexkd_model.model import BevModel

# LIDAR_TOP of nuScenes' vehicle n015 (Singapore). That of n008 (Boston), the other one, lies 4 cm further ahead and is
# pitched by 1.3° more; published networks were trained on both, each in its own LiDAR's frame.
NUSCENES_LIDAR = FrameConfig(translation=(0.943713, 0.0, 1.84023), rotation=(-1.3884, 0.338027, -89.8835))
FRAME_NOTE = (
    "They work in nuScenes' LiDAR frame (x right, y forward, 1.84 m above the road): `frame` of the package's "
    "configuration moves points, cameras and boxes between it and base_link."
)
OLD_BOXES = "Their boxes are (width, length, height) with yaw −yaw − π/2; the head's last layers are changed to ours."
NO_VERSION = (
    "The file does not state its version of mmdetection3d: its boxes are taken as those since 1.0 (length, width, "
    "height); if it is older, put {'mmdet3d_version': '0.17.1'} into its meta."
)
COLOURS = "They saw blue, green, red; the first convolution is changed to our red, green, blue."
CAMERA_NUMBERS = (
    "Their depth net's layers for camera parameters and its deformable convolution have no counterpart: depth must be "
    "trained again."
)
CELLS = "Published BEVDets have cells of {theirs} m, not of {ours} m: their BEV encoder learnt objects in other sizes."
STEM = "Their first stage steps over 2 pillars, ours over {steps}: it must be trained again."
BEVDET_CELL = 0.8


class Family(NamedTuple):
    """Published family of checkpoints.

    name: for the report. layers: those that it shares with our model. notes: sentences for the user.
    """

    name: str
    layers: Layers
    notes: list[str]


def published_frame(names: Collection[str]) -> FrameConfig | None:
    """Frame in which the published network of these tensors works; None: base_link, as BEVDet since version 2."""
    if not any(name.startswith("img_bev_encoder_backbone.") for name in names):
        return NUSCENES_LIDAR
    return NUSCENES_LIDAR if _is_first_bevdet(names) else None


def _is_first_bevdet(names: Collection[str]) -> bool:
    return any(name.startswith("img_view_transformer.depthnet.") for name in names)


def recognise_family(
    names: Collection[str], version: str | None, config: ModelConfig, model: BevModel
) -> Family | None:
    """Recognise the family of a checkpoint by the names of its tensors.

    names: of the checkpoint's tensors. version: of the mmdetection3d it was trained with. None: of no family.
    """

    def any_begins(*beginnings: str) -> bool:
        return any(name.startswith(beginnings) for name in names)

    if any_begins("encoders.", "decoder.backbone."):
        return Family("BEVFusion", _bevfusion(config, model), [*_lidar_notes(model), OLD_BOXES])
    if any_begins("img_bev_encoder_backbone.", "img_view_transformer."):
        return _bevdet(names, config, model)
    if any_begins("bbox_head.prediction_heads.", "view_transform."):
        return Family("mmdetection3d's BEVFusion", _mmdetection3d_bevfusion(model), _lidar_notes(model))
    if any_begins("pts_bbox_head.", "pts_backbone."):
        old = version is not None and version.startswith("0.")
        layers = _mmdetection3d_centerpoint(config, model, heads.OLD_BOXES if old else heads.NEW_BOXES)
        boxes = [OLD_BOXES] if old else [] if version else [NO_VERSION]
        return Family("mmdetection3d's CenterPoint", layers, [*_lidar_notes(model), *boxes])
    if any_begins("bbox_head.tasks.", "neck.blocks."):
        return Family("CenterPoint", _centerpoint(config, model), [*_lidar_notes(model), OLD_BOXES])
    return None


def _lidar_notes(model: BevModel) -> list[str]:
    steps = cast(nn.Conv2d, model.lidar.stem[0]).stride[0] if isinstance(model.lidar, PillarEncoder) else 2
    return [STEM.format(steps=steps)] if steps != 2 else []


def _mmdetection3d_centerpoint(config: ModelConfig, model: BevModel, boxes: heads.Rows) -> Layers:
    if isinstance(model.lidar, VoxelEncoder):
        yield from lidar.sparse_encoder(model.lidar, "pts_middle_encoder.", x_first=False)
    if isinstance(model.lidar, PillarEncoder):
        yield from lidar.pillar_encoder(model.lidar, "pts_voxel_encoder.", "pts_backbone.blocks.", first=0)
    if isinstance(model.bev, BevEncoder):
        yield from bev.second(
            model.bev, "pts_backbone.blocks.", "pts_neck.deblocks.", after_stem=isinstance(model.lidar, PillarEncoder)
        )
    yield from _center_head(config, model, "pts_bbox_head.", boxes)


def _centerpoint(config: ModelConfig, model: BevModel) -> Layers:
    if isinstance(model.lidar, VoxelEncoder):
        yield from lidar.centerpoint_sparse_encoder(model.lidar)
    if isinstance(model.lidar, PillarEncoder):
        yield from lidar.pillar_encoder(model.lidar, "reader.", "neck.blocks.", first=1)
    if isinstance(model.bev, BevEncoder):  # a stage begins with a layer that only pads
        yield from bev.second(
            model.bev, "neck.blocks.", "neck.deblocks.", first=1, after_stem=isinstance(model.lidar, PillarEncoder)
        )
    if isinstance(model.detection, CenterHead):
        yield from heads.centerpoint_head(_task_classes(config))


def _bevdet(names: Collection[str], config: ModelConfig, model: BevModel) -> Family:
    """Map a BEVDet of any version.

    Version 1 calls its depth net `depthnet` and works in the LiDAR's frame, with old boxes. Versions 2 and 3 call it
    `depth_net`, work in nuScenes' ego frame, which is base_link, with new boxes, and read RGB images as if they were
    BGR.
    """
    old = _is_first_bevdet(names)
    boxes = heads.OLD_BOXES if old else heads.NEW_BOXES
    notes = [OLD_BOXES] if old else [COLOURS]
    if config.grid.cell != BEVDET_CELL:
        notes.append(CELLS.format(theirs=BEVDET_CELL, ours=config.grid.cell))
    notes += [CAMERA_NUMBERS] if "img_view_transformer.depth_net.reduce_conv.0.weight" in names else []

    def layers() -> Layers:
        if model.camera is not None:
            yield from _backbone(model.camera, "img_backbone.", bgr=not old)
            if isinstance(model.camera.neck, FinestFPN):
                yield from camera.finest_fpn(len(model.camera.backbone.stages), "img_neck.")
            if isinstance(model.camera.view, LiftSplatView):
                name = "depthnet" if old else "depth_net"
                yield from camera.depth_net(model.camera.view.depth_net, f"img_view_transformer.{name}.", names)
            if model.camera.history is not None:
                yield from camera.history("pre_process_net.layers.0.0.")
        if isinstance(model.bev, ResNetBevEncoder):
            yield from bev.bev_resnet(model.bev)
        yield from _center_head(config, model, "pts_bbox_head.", boxes)

    return Family("BEVDet" if old else "BEVDet 2", layers(), notes)


def _bevfusion(config: ModelConfig, model: BevModel) -> Layers:
    if isinstance(model.lidar, VoxelEncoder):
        yield from lidar.sparse_encoder(model.lidar, "encoders.lidar.backbone.", x_first=True)
    yield from _bevfusion_camera(
        model, "encoders.camera.backbone.", "encoders.camera.neck.", "encoders.camera.vtransform."
    )
    if model.fusion is not None and model.camera is not None:
        yield from bev.concat_fusion(model.camera.channels, "fuser.")
    if isinstance(model.bev, BevEncoder):
        yield from bev.second(model.bev, "decoder.backbone.blocks.", "decoder.neck.deblocks.", transpose_xy)
    if isinstance(model.detection, TransFusionHead):
        yield from heads.transfusion_head("heads.object.", heads.OLD_BOXES, heads.bevfusion_decoder, "norm3")
    yield from _center_head(config, model, "heads.object.", heads.OLD_BOXES, transpose_xy)
    if model.segmentation is not None:
        yield from heads.segmentation_head("heads.map.", _quarter_turns(config))


def _mmdetection3d_bevfusion(model: BevModel) -> Layers:
    if isinstance(model.lidar, VoxelEncoder):
        yield from lidar.sparse_encoder(model.lidar, "pts_middle_encoder.", x_first=True)
    yield from _bevfusion_camera(model, "img_backbone.", "img_neck.", "view_transform.")
    if model.fusion is not None and model.camera is not None:
        yield from bev.concat_fusion(model.camera.channels, "fusion_layer.")
    if isinstance(model.bev, BevEncoder):
        yield from bev.second(model.bev, "pts_backbone.blocks.", "pts_neck.deblocks.", transpose_xy)
    if isinstance(model.detection, TransFusionHead):
        yield from heads.transfusion_head("bbox_head.", heads.NEW_BOXES, heads.mmdetection3d_decoder, "norms.2")


def _bevfusion_camera(model: BevModel, backbone: str, neck: str, transform: str) -> Layers:
    if model.camera is None:
        return
    yield from _backbone(model.camera, backbone, bgr=False)
    if isinstance(model.camera.neck, ConcatFPN):
        yield from camera.concat_fpn(len(model.camera.neck.joins), neck)
    if isinstance(model.camera.view, LiftSplatView):
        yield from camera.depth_net(model.camera.view.depth_net, f"{transform}depthnet.", ())
        if model.camera.view.downsample is not None:
            yield from camera.downsample(f"{transform}downsample.")


def _backbone(encoder: CameraEncoder, theirs: str, bgr: bool) -> Layers:
    if encoder.backbone.name == "swin_tiny":
        yield from camera.swin(encoder.backbone, theirs)
    else:
        yield from camera.resnet(encoder.backbone, theirs, bgr)


def _quarter_turns(config: ModelConfig) -> int:
    """Turns by 90° clockwise from base_link to the network's frame."""
    return 0 if config.frame is None else round(-config.frame.rotation[2] / 90) % 4


def _center_head(
    config: ModelConfig, model: BevModel, theirs: str, boxes: heads.Rows, turn: Change = unchanged
) -> Layers:
    if isinstance(model.detection, CenterHead):
        yield from heads.center_head(_task_classes(config), theirs, boxes, turn)


def _task_classes(config: ModelConfig) -> list[tuple[str, ...]]:
    assert isinstance(config.detection, CenterHeadConfig)
    return [task.classes for task in config.detection.tasks]

"""Published BEV encoders and fusion, layer by layer: the published name on the left, ours on the right."""

from collections.abc import Sized
from typing import cast

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.bev.resnet import ResNetBevEncoder
from vexkd_model.import_weights.layers import (
    POINT_EPS,
    Change,
    Layer,
    Layers,
    conv_norm,
    lidar_first,
    transpose_xy,
    transposed_from_convolution,
    unchanged,
)


def second(
    encoder: BevEncoder, blocks: str, deblocks: str, turn: Change = unchanged, first: int = 0, after_stem: bool = False
) -> Layers:
    """Map SECOND and its FPN. first: index of a stage's first convolution. after_stem: the first stage is our stem."""
    for stage, layers in enumerate(encoder.stages):
        for i in range(0 if after_stem and stage == 0 else len(cast(Sized, layers))):
            at = first + 3 * i
            yield conv_norm(
                f"{blocks}{stage}.{at}.",
                f"{blocks}{stage}.{at + 1}.",
                f"bev.stages.{stage}.{i}.",
                POINT_EPS,
                weight=turn,
            )
        yield conv_norm(
            f"{deblocks}{stage}.0.",
            f"{deblocks}{stage}.1.",
            f"bev.laterals.{stage}.",
            POINT_EPS,
            weight=lambda weight, shape: turn(transposed_from_convolution(weight, shape), shape),
        )


def bev_resnet(encoder: ResNetBevEncoder) -> Layers:
    """Map BEVDet's BEV encoder."""
    for stage, blocks in enumerate(encoder.stages):
        for block in range(len(cast(Sized, blocks))):
            their, our = f"img_bev_encoder_backbone.layers.{stage}.{block}.", f"bev.stages.{stage}.{block}."
            yield conv_norm(f"{their}conv1.", f"{their}bn1.", f"{our}layers.0.")
            yield Layer(f"{their}conv2.", f"{our}layers.1.", (f"{their}bn2.", f"{our}layers.2."))
            if block == 0:
                yield Layer(f"{their}downsample.", f"{our}shortcut.")
    neck = "img_bev_encoder_neck."
    yield conv_norm(f"{neck}conv.0.", f"{neck}conv.1.", "bev.join.0.")
    yield conv_norm(f"{neck}conv.3.", f"{neck}conv.4.", "bev.join.1.")
    yield conv_norm(f"{neck}up2.1.", f"{neck}up2.2.", "bev.output.0.")
    yield Layer(f"{neck}up2.4.", "bev.output.1.")


def concat_fusion(camera_channels: int, theirs: str) -> Layers:
    """Map BEVFusion's fusion by concatenation."""
    reordered = lidar_first(camera_channels)
    yield conv_norm(
        f"{theirs}0.",
        f"{theirs}1.",
        "fusion.merge.",
        weight=lambda weight, shape: transpose_xy(reordered(weight, shape), shape),
    )

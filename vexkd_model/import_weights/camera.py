"""Published camera encoders, layer by layer: the published name on the left, ours on the right."""

from collections.abc import Collection
from functools import partial
from typing import Any, cast

from torch import nn
from typing_extensions import assert_never

from vexkd_model.camera.backbone import ImageBackbone
from vexkd_model.camera.depth_nets import CameraAwareDepthNet, LidarDepthNet, PlainDepthNet
from vexkd_model.import_weights.layers import (
    Layer,
    Layers,
    conv_norm,
    merge_patch_by_patch,
    qkv_part,
    rgb_from_bgr,
    rgb_from_bgr_constant,
    transpose_xy,
)


def resnet(backbone: ImageBackbone, theirs: str, bgr: bool) -> Layers:
    """Map a ResNet with torchvision's names, which are also mmdetection's."""
    colours = {"weight": rgb_from_bgr, "constant": rgb_from_bgr_constant} if bgr else {}
    ours = "camera.backbone.body."

    def layer(conv: str, norm: str, at: str, **changes) -> Layer:
        return Layer(
            f"{theirs}{conv}", f"{ours}{at}.convolution.", (f"{theirs}{norm}", f"{ours}{at}.normalization."), **changes
        )

    yield layer("conv1.", "bn1.", "embedder.embedder", **colours)
    body = cast(Any, backbone.body)  # transformers does not annotate its modules
    for stage, blocks in enumerate(body.encoder.stages):
        for block, parts in enumerate(blocks.layers):
            their, our = f"layer{stage + 1}.{block}.", f"encoder.stages.{stage}.layers.{block}."
            for i in range(len(parts.layer)):
                yield layer(f"{their}conv{i + 1}.", f"{their}bn{i + 1}.", f"{our}layer.{i}")
            if not isinstance(parts.shortcut, nn.Identity):
                yield layer(f"{their}downsample.0.", f"{their}downsample.1.", f"{our}shortcut")


def swin(backbone: ImageBackbone, theirs: str) -> Layers:
    """Map a Swin transformer with mmdetection's names."""
    ours = "camera.backbone.body."
    yield Layer(f"{theirs}patch_embed.projection.", f"{ours}swin.embeddings.patch_embeddings.projection.")
    yield Layer(f"{theirs}patch_embed.norm.", f"{ours}swin.embeddings.norm.")
    stages = cast(Any, backbone.body).swin.encoder.layers
    for stage, parts in enumerate(stages):
        for block in range(len(parts.blocks)):
            yield from _swin_block(
                f"{theirs}stages.{stage}.blocks.{block}.", f"{ours}swin.encoder.layers.{stage}.blocks.{block}."
            )
        if stage + 1 < len(stages):
            their, our = f"{theirs}stages.{stage}.downsample.", f"{ours}swin.encoder.layers.{stage}.downsample."
            yield Layer(f"{their}norm.", f"{our}norm.", rows=lambda tensor: merge_patch_by_patch(tensor, tensor.shape))
            yield Layer(f"{their}reduction.", f"{our}reduction.", tensors=("weight",), weight=merge_patch_by_patch)
    for stage in backbone.stages:
        yield Layer(f"{theirs}norm{stage - 1}.", f"{ours}hidden_states_norms.stage{stage}.")


def _swin_block(theirs: str, ours: str) -> Layers:
    yield Layer(f"{theirs}norm1.", f"{ours}layernorm_before.")
    yield Layer(f"{theirs}norm2.", f"{ours}layernorm_after.")
    for i, letter in enumerate("qkv"):
        yield Layer(f"{theirs}attn.w_msa.qkv.", f"{ours}attention.{letter}_proj.", rows=partial(qkv_part, i))
    yield Layer(f"{theirs}attn.w_msa.proj.", f"{ours}attention.o_proj.")
    yield Layer(
        f"{theirs}attn.w_msa.relative_position_bias_",
        f"{ours}attention.relative_position_bias.relative_position_bias_",
        tensors=("table",),
    )
    yield Layer(f"{theirs}ffn.layers.0.0.", f"{ours}mlp.fc1.")
    yield Layer(f"{theirs}ffn.layers.1.", f"{ours}mlp.fc2.")


def finest_fpn(laterals: int, theirs: str) -> Layers:
    """Map BEVDet's neck."""
    for i in range(laterals):
        yield Layer(f"{theirs}lateral_convs.{i}.conv.", f"camera.neck.top_down.laterals.{i}.")
    yield Layer(f"{theirs}fpn_convs.0.conv.", "camera.neck.output.")


def concat_fpn(joins: int, theirs: str) -> Layers:
    """Map BEVFusion's neck."""
    for i in range(joins):
        for j, name in enumerate(("lateral_convs", "fpn_convs")):
            at = f"{theirs}{name}.{i}."
            yield conv_norm(f"{at}conv.", f"{at}bn.", f"camera.neck.joins.{i}.{j}.")


def depth_net(net: PlainDepthNet | CameraAwareDepthNet | LidarDepthNet, theirs: str, names: Collection[str]) -> Layers:
    """Map the depth net of our model's kind.

    theirs: ends in `depthnet.` or `depth_net.`. names: of the checkpoint's tensors.
    """
    match net:
        case PlainDepthNet():
            yield Layer(theirs, "camera.view.depth_net.layer.")
        case CameraAwareDepthNet():
            yield from _camera_aware_depth_net(theirs, deformable=f"{theirs}depth_conv.5.weight" in names)
        case LidarDepthNet():
            yield from _lidar_depth_net(theirs)
        case _:
            assert_never(net)


def _lidar_depth_net(theirs: str) -> Layers:
    """Map BEVFusion's depth net, at stride 8."""
    returns = theirs.replace("depthnet.", "dtransform.")
    for i in range(3):
        yield conv_norm(f"{returns}{3 * i}.", f"{returns}{3 * i + 1}.", f"camera.view.depth_net.returns.{i}.")
    for i in range(2):
        yield conv_norm(f"{theirs}{3 * i}.", f"{theirs}{3 * i + 1}.", f"camera.view.depth_net.layers.{i}.")
    yield Layer(f"{theirs}6.", "camera.view.depth_net.layers.2.")


def _camera_aware_depth_net(theirs: str, deformable: bool) -> Layers:
    """Map BEVDet's version of BEVDepth's depth net.

    Left out are its layers for camera parameters, because ours take other and scaled ones, and the deformable
    convolution, which only some have.
    """
    ours = "camera.view.depth_net."
    yield conv_norm(f"{theirs}reduce_conv.0.", f"{theirs}reduce_conv.1.", f"{ours}reduce.")
    yield Layer(f"{theirs}context_conv.", f"{ours}context.")
    for i in range(3):
        their, our = f"{theirs}depth_conv.{i}.", f"{ours}depth.{i}.layers."
        yield conv_norm(f"{their}conv1.", f"{their}bn1.", f"{our}0.")
        yield Layer(f"{their}conv2.", f"{our}1.", (f"{their}bn2.", f"{our}2."))
    pyramid = f"{theirs}depth_conv.3."
    for i in range(4):
        at = f"{pyramid}aspp{i + 1}."
        yield conv_norm(f"{at}atrous_conv.", f"{at}bn.", f"{ours}depth.3.branches.{i}.")
    yield conv_norm(f"{pyramid}global_avg_pool.1.", f"{pyramid}global_avg_pool.2.", f"{ours}depth.3.whole.1.")
    yield conv_norm(f"{pyramid}conv1.", f"{pyramid}bn1.", f"{ours}depth.3.join.0.")
    yield Layer(f"{theirs}depth_conv.{5 if deformable else 4}.", f"{ours}depth.5.")


def downsample(theirs: str) -> Layers:
    """Map BEVFusion's downsampling of maps (B, C, X, Y)."""
    for i in range(3):
        yield conv_norm(
            f"{theirs}{3 * i}.", f"{theirs}{3 * i + 1}.", f"camera.view.downsample.layers.{i}.", weight=transpose_xy
        )


def history(theirs: str) -> Layers:
    """Map BEVDet4D's encoder of past maps."""
    ours = "camera.history.encoder."
    yield conv_norm(f"{theirs}conv1.", f"{theirs}bn1.", f"{ours}layers.")
    yield Layer(f"{theirs}conv2.", f"{ours}layers.3.", (f"{theirs}bn2.", f"{ours}layers.4."))
    yield Layer(f"{theirs}downsample.", f"{ours}shortcut.")

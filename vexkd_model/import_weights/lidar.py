"""Published LiDAR encoders, layer by layer: the published name on the left, ours on the right."""

from vexkd_model.import_weights.layers import (
    POINT_EPS,
    Change,
    Layer,
    Layers,
    conv_norm,
    pillar_features,
    scale_points,
    spconv,
    spconv_x_first,
)
from vexkd_model.lidar.pillars import PillarEncoder
from vexkd_model.lidar.sparse_encoder import VoxelEncoder


def _sparse_norm(conv: str, norm: str, ours: str, change: Change) -> Layer:
    return Layer(conv, f"{ours}conv.", (norm, f"{ours}norm."), POINT_EPS, weight=change)


def _sparse_block(theirs: str, ours: str, change: Change) -> Layers:
    yield _sparse_norm(f"{theirs}conv1.", f"{theirs}bn1.", f"{ours}first.", change)
    yield _sparse_norm(f"{theirs}conv2.", f"{theirs}bn2.", ours, change)


def sparse_encoder(encoder: VoxelEncoder, theirs: str, x_first: bool) -> Layers:
    """Map mmdetection3d's SparseEncoder; there the strided convolution ends a stage, here it begins the next one."""
    change = spconv_x_first if x_first else spconv
    first = scale_points(change)
    yield _sparse_norm(f"{theirs}conv_input.0.", f"{theirs}conv_input.1.", "lidar.stages.0.0.", first)
    for stage in range(len(encoder.stages)):
        at = f"{theirs}encoder_layers.encoder_layer{stage + 1}."
        for block in (0, 1):
            yield from _sparse_block(f"{at}{block}.", f"lidar.stages.{stage}.{block + 1}.", change)
        if stage + 1 < len(encoder.stages):
            yield _sparse_norm(f"{at}2.0.", f"{at}2.1.", f"lidar.stages.{stage + 1}.0.", change)
    yield _sparse_norm(f"{theirs}conv_out.0.", f"{theirs}conv_out.1.", "lidar.flatten.", change)


def centerpoint_sparse_encoder(encoder: VoxelEncoder) -> Layers:
    first = scale_points(spconv)
    yield _sparse_norm("backbone.conv_input.0.", "backbone.conv_input.1.", "lidar.stages.0.0.", first)
    for stage in range(len(encoder.stages)):
        at = f"backbone.conv{stage + 1}."
        if stage > 0:
            yield _sparse_norm(f"{at}0.", f"{at}1.", f"lidar.stages.{stage}.0.", spconv)
        for block in (0, 1):
            yield from _sparse_block(
                f"{at}{block if stage == 0 else block + 3}.", f"lidar.stages.{stage}.{block + 1}.", spconv
            )
    yield _sparse_norm("backbone.extra_conv.0.", "backbone.extra_conv.1.", "lidar.flatten.", spconv)


def pillar_encoder(encoder: PillarEncoder, theirs: str, blocks: str, first: int) -> Layers:
    """Map the point net, and the stem, which is the first stage of the published SECOND."""
    weight, constant = pillar_features(encoder.pillars.cell)
    yield conv_norm(
        f"{theirs}pfn_layers.0.linear.",
        f"{theirs}pfn_layers.0.norm.",
        "lidar.point_net.",
        POINT_EPS,
        weight=weight,
        constant=constant,
    )
    for i in range(len(encoder.stem) - 2):
        at = first + 3 * i
        ours = "lidar.stem." if i == 0 else f"lidar.stem.{i + 2}."
        yield conv_norm(f"{blocks}0.{at}.", f"{blocks}0.{at + 1}.", ours, POINT_EPS)

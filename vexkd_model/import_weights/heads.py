"""Published task heads, layer by layer: the published name on the left, ours on the right."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from vexkd_model.import_weights.layers import (
    Change,
    Layer,
    Layers,
    conv_norm,
    length_width_height,
    linear_from_sequence,
    output_of_bias,
    qkv_part,
    sin_cos_of_yaw,
    transpose_xy,
    unchanged,
    unchanged_rows,
)

# The order of the channels of each heatmap is that of the classes.
TASKS = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)
BOX_FIELDS = {"height": "height", "dim": "size", "rot": "heading", "vel": "velocity"}

# Since mmdetection3d 1.0, boxes are as ours: length, width, height, and yaw from x. Before that, in CenterPoint and in
# BEVFusion's own repository, two fields are others. Offset, height and velocity are the same everywhere: in cells from
# the corner of the cell, of the middle of the box, in the axes of the points.
Rows = Mapping[str, Callable[[Tensor], Tensor]]
NEW_BOXES: Rows = {}
OLD_BOXES: Rows = {"dim": length_width_height, "rot": sin_cos_of_yaw}


def center_head(tasks: Sequence[tuple[str, ...]], theirs: str, boxes: Rows, turn: Change = unchanged) -> Layers:
    """Map mmdetection3d's CenterHead, with a branch for every field; tasks: our classes, other ones are left out."""
    yield conv_norm(f"{theirs}shared_conv.conv.", f"{theirs}shared_conv.bn.", "detection.shared.", weight=turn)
    for i, classes in enumerate(tasks):
        for their, our in {"heatmap": "heatmap", "reg": "offset", **BOX_FIELDS}.items() if classes in TASKS else ():
            at, branch = f"{theirs}task_heads.{TASKS.index(classes)}.{their}.", f"detection.tasks.{i}.branches.{our}."
            yield conv_norm(f"{at}0.conv.", f"{at}0.bn.", f"{branch}0.", weight=turn)
            yield Layer(f"{at}1.", f"{branch}1.", weight=turn, rows=boxes.get(their, unchanged_rows))


def centerpoint_head(tasks: Sequence[tuple[str, ...]]) -> Layers:
    """Map the CenterHead of CenterPoint's own repository."""
    yield conv_norm("bbox_head.shared_conv.0.", "bbox_head.shared_conv.1.", "detection.shared.")
    for i, classes in enumerate(tasks):
        for their, our in {"hm": "heatmap", "reg": "offset", **BOX_FIELDS}.items() if classes in TASKS else ():
            at, branch = f"bbox_head.tasks.{TASKS.index(classes)}.{their}.", f"detection.tasks.{i}.branches.{our}."
            yield conv_norm(f"{at}0.", f"{at}1.", f"{branch}0.")
            yield Layer(f"{at}3.", f"{branch}1.", rows=OLD_BOXES.get(their, unchanged_rows))


def transfusion_head(theirs: str, boxes: Rows, decoder: Callable[[str], Layers], last_norm: str) -> Layers:
    """Map BEVFusion's TransFusion head, on maps (B, C, X, Y). decoder: yields the decoder's layers.

    last_norm: the decoder's, in it; it has a bias there, which here is in the running means of the predictions' norms.
    """
    yield Layer(f"{theirs}shared_conv.", "detection.shared.", weight=transpose_xy)
    yield conv_norm(
        f"{theirs}heatmap_head.0.conv.", f"{theirs}heatmap_head.0.bn.", "detection.heatmap.0.", weight=transpose_xy
    )
    yield Layer(f"{theirs}heatmap_head.1.", "detection.heatmap.1.", weight=transpose_xy)
    yield Layer(f"{theirs}class_encoding.", "detection.class_encoding.", weight=linear_from_sequence)
    for name, our in (("self_posembed", "query_position"), ("cross_posembed", "key_position")):
        at = f"{theirs}decoder.0.{name}.position_embedding_head."
        yield conv_norm(f"{at}0.", f"{at}1.", f"detection.{our}.layers.", weight=linear_from_sequence)
        yield Layer(f"{at}3.", f"detection.{our}.layers.3.", weight=linear_from_sequence)
    yield from decoder(f"{theirs}decoder.0.")
    for their, our in {"heatmap": "logits", "center": "offset", **BOX_FIELDS}.items():
        at = f"{theirs}prediction_heads.0.{their}."
        yield conv_norm(
            f"{at}0.conv.",
            f"{at}0.bn.",
            f"detection.predictions.{our}.",
            weight=linear_from_sequence,
            constant=output_of_bias,
            constant_of=(f"{theirs}decoder.0.{last_norm}.bias",),
        )
        yield Layer(
            f"{at}1.",
            f"detection.predictions.{our}.3.",
            weight=linear_from_sequence,
            rows=boxes.get(their, unchanged_rows),
        )


def bevfusion_decoder(theirs: str) -> Layers:
    """Map the TransFusion decoder of BEVFusion's own repository."""
    yield from _attention(f"{theirs}self_attn.", "self_attention")
    yield from _attention(f"{theirs}multihead_attn.", "cross_attention")
    for i in (1, 2, 3):
        yield Layer(f"{theirs}norm{i}.", f"detection.decoder.norms.{i - 1}.")
    yield Layer(f"{theirs}linear1.", "detection.decoder.feed_forward.0.")
    yield Layer(f"{theirs}linear2.", "detection.decoder.feed_forward.3.")


def mmdetection3d_decoder(theirs: str) -> Layers:
    """Map the TransFusion decoder of mmdetection3d's project BEVFusion."""
    yield from _attention(f"{theirs}self_attn.attn.", "self_attention")
    yield from _attention(f"{theirs}cross_attn.attn.", "cross_attention")
    for i in range(3):
        yield Layer(f"{theirs}norms.{i}.", f"detection.decoder.norms.{i}.")
    yield Layer(f"{theirs}ffn.layers.0.0.", "detection.decoder.feed_forward.0.")
    yield Layer(f"{theirs}ffn.layers.1.", "detection.decoder.feed_forward.3.")


def _attention(theirs: str, name: str) -> Layers:
    """Map an attention layer without the keys' bias, which softmax cancels."""
    for i, our in enumerate(("query", "key", "value")):
        yield Layer(
            f"{theirs}in_proj_",
            f"detection.decoder.{name}.{our}.",
            rows=partial(qkv_part, i),
            tensors=("weight",) if our == "key" else ("weight", "bias"),
        )
    yield Layer(f"{theirs}out_proj.", f"detection.decoder.{name}.out.")


def segmentation_head(theirs: str, quarter_turns: int = 0) -> Layers:
    """Map BEVFusion's segmentation head; its classes are ours, in the same order.

    quarter_turns: of the network's frame, clockwise from base_link, where our head draws its map.
    """

    def turned(weight: Tensor, shape: torch.Size) -> Tensor:
        return transpose_xy(weight, shape).rot90(quarter_turns, (-2, -1))

    for i in (0, 1):
        yield conv_norm(
            f"{theirs}classifier.{3 * i}.",
            f"{theirs}classifier.{3 * i + 1}.",
            f"segmentation.layers.{i}.",
            weight=turned,
        )
    yield Layer(f"{theirs}classifier.6.", "segmentation.layers.2.", weight=transpose_xy)

"""Published task heads, layer by layer: theirs stands left, ours right."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor

from vexkd_model.import_weights.layers import (
    Change,
    Layer,
    Layers,
    conv_norm,
    length_first,
    of_bias,
    same,
    squeezed,
    third,
    turned,
    yaw_from_x,
)

# The order of the channels of each heatmap is that of the classes.
TASKS = (("car",), ("truck", "construction_vehicle"), ("bus", "trailer"), ("barrier",), ("motorcycle", "bicycle"),
         ("pedestrian", "traffic_cone"))  # fmt: skip
BOX_FIELDS = {"height": "height", "dim": "size", "rot": "heading", "vel": "velocity"}

# Since mmdetection3d 1.0, boxes are as ours: length, width, height, and yaw from x. Before that, in CenterPoint and in
# BEVFusion's own repository, two fields are others. Offset, height and velocity are the same everywhere: in cells from
# the corner of the cell, of the middle of the box, in the axes of the points.
Rows = Mapping[str, Callable[[Tensor], Tensor]]
NEW_BOXES: Rows = {}
OLD_BOXES: Rows = {"dim": length_first, "rot": yaw_from_x}


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def center_head(tasks: Sequence[tuple[str, ...]], theirs: str, boxes: Rows, turn: Change = same) -> Layers:
    """mmdetection3d's, with a branch for every field. tasks: the classes of ours; one that is not theirs is left."""
    yield conv_norm(f"{theirs}shared_conv.conv.", f"{theirs}shared_conv.bn.", "detection.shared.", weight=turn)
    for i, classes in enumerate(tasks):
        for their, our in {"heatmap": "heatmap", "reg": "offset", **BOX_FIELDS}.items() if classes in TASKS else ():
            at, branch = f"{theirs}task_heads.{TASKS.index(classes)}.{their}.", f"detection.tasks.{i}.branches.{our}."
            yield conv_norm(f"{at}0.conv.", f"{at}0.bn.", f"{branch}0.", weight=turn)
            yield Layer(f"{at}1.", f"{branch}1.", weight=turn, rows=boxes.get(their, _unchanged))


def centerpoint_head(tasks: Sequence[tuple[str, ...]]) -> Layers:
    """CenterPoint's own names."""
    yield conv_norm("bbox_head.shared_conv.0.", "bbox_head.shared_conv.1.", "detection.shared.")
    for i, classes in enumerate(tasks):
        for their, our in {"hm": "heatmap", "reg": "offset", **BOX_FIELDS}.items() if classes in TASKS else ():
            at, branch = f"bbox_head.tasks.{TASKS.index(classes)}.{their}.", f"detection.tasks.{i}.branches.{our}."
            yield conv_norm(f"{at}0.", f"{at}1.", f"{branch}0.")
            yield Layer(f"{at}3.", f"{branch}1.", rows=OLD_BOXES.get(their, _unchanged))


def transfusion_head(theirs: str, boxes: Rows, decoder: Callable[[str], Layers], last_norm: str) -> Layers:
    """BEVFusion's, on maps (B, C, X, Y). decoder: layers of the decoder of that name.

    last_norm: the decoder's, in it; it has a bias there, which here is in the running means of the predictions' norms.
    """
    yield Layer(f"{theirs}shared_conv.", "detection.shared.", weight=turned)
    yield conv_norm(f"{theirs}heatmap_head.0.conv.", f"{theirs}heatmap_head.0.bn.", "detection.heatmap.0.",
                    weight=turned)
    yield Layer(f"{theirs}heatmap_head.1.", "detection.heatmap.1.", weight=turned)
    yield Layer(f"{theirs}class_encoding.", "detection.class_encoding.", weight=squeezed)
    for name, our in (("self_posembed", "query_position"), ("cross_posembed", "key_position")):
        at = f"{theirs}decoder.0.{name}.position_embedding_head."
        yield conv_norm(f"{at}0.", f"{at}1.", f"detection.{our}.layers.", weight=squeezed)
        yield Layer(f"{at}3.", f"detection.{our}.layers.3.", weight=squeezed)
    yield from decoder(f"{theirs}decoder.0.")
    for their, our in {"heatmap": "logits", "center": "offset", **BOX_FIELDS}.items():
        at = f"{theirs}prediction_heads.0.{their}."
        yield conv_norm(f"{at}0.conv.", f"{at}0.bn.", f"detection.predictions.{our}.", weight=squeezed,
                        constant=of_bias, constant_of=(f"{theirs}decoder.0.{last_norm}.bias",))
        yield Layer(f"{at}1.", f"detection.predictions.{our}.3.", weight=squeezed, rows=boxes.get(their, _unchanged))


def bevfusion_decoder(theirs: str) -> Layers:
    """BEVFusion's own names."""
    yield from _attention(f"{theirs}self_attn.", "self_attention")
    yield from _attention(f"{theirs}multihead_attn.", "cross_attention")
    for i in (1, 2, 3):
        yield Layer(f"{theirs}norm{i}.", f"detection.decoder.norms.{i - 1}.")
    yield Layer(f"{theirs}linear1.", "detection.decoder.feed_forward.0.")
    yield Layer(f"{theirs}linear2.", "detection.decoder.feed_forward.3.")


def mmdetection3d_decoder(theirs: str) -> Layers:
    """mmdetection3d's names, in its project BEVFusion."""
    yield from _attention(f"{theirs}self_attn.attn.", "self_attention")
    yield from _attention(f"{theirs}cross_attn.attn.", "cross_attention")
    for i in range(3):
        yield Layer(f"{theirs}norms.{i}.", f"detection.decoder.norms.{i}.")
    yield Layer(f"{theirs}ffn.layers.0.0.", "detection.decoder.feed_forward.0.")
    yield Layer(f"{theirs}ffn.layers.1.", "detection.decoder.feed_forward.3.")


def _attention(theirs: str, name: str) -> Layers:
    """The keys' bias is left: softmax does not see it."""
    for i, our in enumerate(("query", "key", "value")):
        yield Layer(f"{theirs}in_proj_", f"detection.decoder.{name}.{our}.", rows=partial(third, i),
                    tensors=("weight",) if our == "key" else ("weight", "bias"))
    yield Layer(f"{theirs}out_proj.", f"detection.decoder.{name}.out.")


def segmentation_head(theirs: str) -> Layers:
    """BEVFusion's; its classes are ours, in the same order."""
    for i in (0, 1):
        yield conv_norm(f"{theirs}classifier.{3 * i}.", f"{theirs}classifier.{3 * i + 1}.", f"segmentation.layers.{i}.",
                        weight=turned)
    yield Layer(f"{theirs}classifier.6.", "segmentation.layers.2.", weight=turned)

"""Quantisation of an ONNX graph to 8 bits, after the training, by ONNX Runtime."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

CONVOLUTIONS = ("Conv", "ConvTranspose")
QUANTISED = [*CONVOLUTIONS, "Relu", "Add", "Concat"]


class _Examples(CalibrationDataReader):
    def __init__(self, examples: Sequence[Tensor]) -> None:
        self._rest = iter(examples)

    def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        example = next(self._rest, None)
        return None if example is None else {"input": example.numpy()}


def quantise(path: Path, examples: Sequence[Tensor], first_exact: int = 0) -> None:
    """Quantise the graph at `path` in place: weights by channel, activations by their range in the examples.

    The last layer of each output stays in float32: it writes logits, metres and angles. So do the `first_exact` layers:
    what they read may range too widely for eight bits.
    """
    prepared = path.with_suffix(".prepared.onnx")
    logging.getLogger("root").setLevel(logging.ERROR)  # it advises to prepare what has just been prepared
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    graph = onnx.load(prepared)
    quantize_static(
        prepared,
        path,
        _Examples(examples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        op_types_to_quantize=QUANTISED,
        nodes_to_exclude=last_layers(graph) + first_layers(graph, first_exact),
    )
    prepared.unlink()


def first_layers(model: onnx.ModelProto, count: int) -> list[str]:
    """Name the first `count` convolutions, in the order in which they are computed."""
    return [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS][:count]


def last_layers(model: onnx.ModelProto) -> list[str]:
    """Name the convolutions behind which no other convolution comes."""
    read_by: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            read_by.setdefault(name, []).append(node)

    def leads_to_a_layer(node: onnx.NodeProto) -> bool:
        return any(
            after.op_type in CONVOLUTIONS or leads_to_a_layer(after)
            for name in node.output
            for after in read_by.get(name, ())
        )

    return [node.name for node in model.graph.node if node.op_type == "Conv" and not leads_to_a_layer(node)]

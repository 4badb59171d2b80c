"""Measured rates of one thread of the processor: matrix products by precision, and memory copies."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch

from vexkd_model.machine import has_bfloat16

EDGE = 2048  # of the square matrices
COPIED = 256 << 20  # bytes, more than a core's caches hold
REPEATS = 5
VALUE_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Rates:
    """Measured rates. gflops: of matrix products, by precision, of those that are there. gbytes: read and written."""

    gflops: dict[str, float]
    gbytes: float


@dataclass(frozen=True)
class Cost:
    """FLOPs of a computation, and values that its convolutions and matrix products read and write, each once."""

    flops: float
    values: float


def measure_rates() -> Rates:
    """Measure the rates of this thread, each the best of a few, because other work only slows them down."""
    products = {"float32": _torch_product(torch.float32)}
    if has_bfloat16(torch.device("cpu")):
        products["bfloat16"] = _torch_product(torch.bfloat16)
    if find_spec("onnx") is not None and find_spec("onnxruntime") is not None:
        products["int8"] = _int8_product()
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source).copy_(source)  # written once before, so that the kernel has given its pages
    return Rates(
        {precision: 2e-9 * EDGE**3 / _least_seconds(product) for precision, product in products.items()},
        2e-9 * COPIED / _least_seconds(lambda: target.copy_(source)),
    )


def floors_ms(cost: Cost, precision: str, rates: Rates) -> tuple[float | None, float]:
    """Least time of a computation all in one precision: by its FLOPs, None without a rate, and by its bytes [ms]."""
    rate = rates.gflops.get(precision)
    by_memory = cost.values * VALUE_BYTES[precision] / rates.gbytes * 1e-6
    return None if rate is None else cost.flops / rate * 1e-6, by_memory


def _least_seconds(call: Callable[[], object]) -> float:
    call()
    took = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return min(took)


def _torch_product(dtype: torch.dtype) -> Callable[[], object]:
    a, b = (torch.ones(EDGE, EDGE, dtype=dtype) for _ in range(2))
    return lambda: a @ b


def _int8_product() -> Callable[[], object]:
    """Make a product of bytes in ONNX Runtime, which computes the graphs; PyTorch's own takes twice as long."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    shape = [EDGE, EDGE]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("c", TensorProto.INT32, shape)],
        [numpy_helper.from_array(np.ones(shape, np.int8), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    a = np.ones(shape, np.uint8)
    return lambda: session.run(None, {"a": a})

"""Runtimes of ONNX graphs: ONNX Runtime, OpenVINO, and TensorRT through ONNX Runtime's provider.

All read the same file and compute in the precision that it is written in.
"""

import hashlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from vexkd_model.errors import UserError

GraphRuntime = Literal["onnx", "openvino", "tensorrt"]
GRAPH_RUNTIMES: tuple[GraphRuntime, ...] = get_args(GraphRuntime)
RUNTIME_NAMES: Mapping[GraphRuntime, str] = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}
PACKAGES: Mapping[GraphRuntime, str] = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "onnxruntime-gpu tensorrt",
}
TENSORRT = "TensorrtExecutionProvider"


def is_installed(runtime: GraphRuntime) -> bool:
    """True where the runtime's package is installed; for tensorrt, an ONNX Runtime built with it."""
    if runtime == "openvino":
        return find_spec("openvino") is not None
    if find_spec("onnxruntime") is None:
        return False
    if runtime == "onnx":
        return True
    import onnxruntime

    return TENSORRT in onnxruntime.get_available_providers()


def check_installed(runtime: GraphRuntime) -> None:
    """Raise UserError, with the packages to install, unless the runtime is installed."""
    if not is_installed(runtime):
        raise UserError(
            f"runtime {runtime}: {RUNTIME_NAMES[runtime]} is not installed; pip install {PACKAGES[runtime]}, "
            "or choose torch"
        )


def load_graph(content: bytes, runtime: GraphRuntime) -> nn.Module:
    """Load an ONNX file as a module: tensor → list of tensors on its device, on as many threads as PyTorch has."""
    return OpenVinoGraph(content) if runtime == "openvino" else OnnxGraph(content, runtime)


class OnnxGraph(nn.Module):
    """ONNX graph in ONNX Runtime, for the CPU or TensorRT."""

    def __init__(self, content: bytes, runtime: Literal["onnx", "tensorrt"] = "onnx") -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # A thread that spins between frames takes the time of whoever works then.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = _tensorrt_providers(content) if runtime == "tensorrt" else ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(content, options, providers=providers)

    def forward(self, tensor: Tensor) -> list[Tensor]:
        made = cast("list[Any]", self._session.run(None, {"input": tensor.contiguous().cpu().numpy()}))
        return [torch.from_numpy(array).to(tensor.device) for array in made]


class OpenVinoGraph(nn.Module):
    """ONNX graph in OpenVINO, for the CPU."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        import openvino  # pyright: ignore[reportMissingImports]

        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it, in a float32 graph, too
            "ENABLE_CPU_PINNING": False,  # threads that are bound to a core wait for whoever works there
        }
        compiled = core.compile_model(core.read_model(content), "CPU", settings)
        self._outputs = len(compiled.outputs)
        self._request = compiled.create_infer_request()

    def forward(self, tensor: Tensor) -> list[Tensor]:
        self._request.infer([tensor.contiguous().numpy()], share_inputs=True)
        # Copied, because the request writes the next frame's outputs to the same memory.
        return [torch.from_numpy(np.array(self._request.get_output_tensor(i).data)) for i in range(self._outputs)]


def _tensorrt_providers(content: bytes) -> list[Any]:
    """Providers by preference; the engine is built at the first start and kept, for this graph, GPU and version."""
    engines = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vexkd" / "tensorrt"
    folder = engines / hashlib.sha256(content).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": True,
    }
    return [(TENSORRT, settings), "CUDAExecutionProvider", "CPUExecutionProvider"]

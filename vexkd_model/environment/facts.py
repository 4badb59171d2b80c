"""Parts of this installation: Python, PyTorch, GPU and driver, processor, runtimes of graphs, ROS."""

import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version

import torch

from vexkd_model.environment.cuda_driver import Driver, nvidia_on_pci, read_driver
from vexkd_model.environment.ros import Ros, read_ros
from vexkd_model.machine import has_bfloat16, processor, usable_cores

# Instructions that decide how fast float32, bfloat16 and int8 are, by PyTorch's names for them.
INSTRUCTIONS = {
    "avx2": ("avx2",),
    "avx512": ("avx512_f",),
    "bf16": ("avx512_bf16",),
    "amx": ("amx_bf16", "amx_int8"),
    "vnni": ("avx512_vnni", "avx_vnni"),
}
VERSIONS = ("numpy", "lightning", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "ros-rclpy")
MODULES = ("spconv", "cumm", "onnxruntime", "cv2")  # come from packages of several names, which overwrite one another
OURS = "vexkd"


@dataclass(frozen=True)
class Facts:
    """Versions and abilities of the parts.

    versions: of the packages that are installed. packages: names of those that bring a module. unmet: our requirements
    that are not met, in pip's words. torch_cuda: CUDA that PyTorch is built for. torch_kernels: GPUs that it has code
    for, "sm_90" for example, where it can use one. graph_providers: of ONNX Runtime.
    """

    python: str
    torch: str
    torch_cuda: str | None = None
    torch_sees_gpu: bool = False
    torch_kernels: tuple[str, ...] = ()
    driver: Driver | None = None
    nvidia_on_pci: bool = False
    instructions: tuple[str, ...] = tuple(INSTRUCTIONS)
    bfloat16: bool = True
    x86: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    packages: dict[str, list[str]] = field(default_factory=dict)
    graph_providers: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    ros: Ros = field(default_factory=Ros)


def read_facts() -> Facts:
    """Look at this process' machine and installation; takes seconds."""
    capabilities = torch.cpu.get_capabilities()
    brings = packages_distributions()
    packages = {module: sorted(set(brings.get(module, ()))) for module in MODULES}
    names = {*VERSIONS, *(name for several in packages.values() for name in several)}
    return Facts(
        python=platform.python_version(),
        torch=torch.__version__,
        torch_cuda=torch.version.cuda,
        torch_sees_gpu=torch.cuda.is_available(),
        torch_kernels=tuple(torch.cuda.get_arch_list()),
        driver=read_driver(),
        nvidia_on_pci=nvidia_on_pci(),
        instructions=tuple(name for name, any_of in INSTRUCTIONS.items() if any(map(capabilities.get, any_of))),
        bfloat16=has_bfloat16(torch.device("cpu")),
        x86=platform.machine() == "x86_64",
        versions={name: found for name in sorted(names) if (found := _version(name))},
        packages=packages,
        graph_providers=_graph_providers() if packages["onnxruntime"] else (),
        unmet=_unmet_requirements(),
        ros=read_ros(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _graph_providers() -> tuple[str, ...]:
    import onnxruntime

    return tuple(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())


def _unmet_requirements() -> tuple[str, ...]:
    """Ask pip, which not every environment has."""
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    return tuple(line for line in checked.stdout.splitlines() if line.startswith(OURS))


def rows(facts: Facts) -> dict[str, str]:
    """Facts in words, by what they are about."""
    ros, driver = facts.ros, facts.driver
    gpus = driver.gpus if driver else ()
    spconv = ", ".join(_named(facts, name) for name in facts.packages.get("spconv", ()))
    graphs = [_named(facts, name) for name in ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")]
    rclpy = f"rclpy {facts.versions.get('ros-rclpy', '')} in {ros.rclpy}" if ros.rclpy else "no rclpy"
    built_for = f"built for CUDA {facts.torch_cuda}" if facts.torch_cuda else "built without CUDA"
    return {
        "Python": f"{facts.python}, {sys.executable}",
        "processor": f"{processor()}, {usable_cores()} cores, {' '.join(facts.instructions) or 'without AVX2'}",
        "precision": f"on this processor, auto is {'bfloat16' if facts.bfloat16 else 'float32'}",
        "PyTorch": f"{facts.torch}, {built_for}",
        "driver": f"runs CUDA up to {driver.cuda[0]}.{driver.cuda[1]}" if driver else "no NVIDIA driver",
        "GPU": ", ".join(f"{gpu.name} (compute capability {gpu.capability[0]}.{gpu.capability[1]})" for gpu in gpus)
        or "none",
        "spconv": spconv or "none: voxels run on plain PyTorch",
        "graphs": ", ".join(filter(None, graphs)) or "no runtime of graphs",
        "providers": ", ".join(facts.graph_providers) or "none",
        "ROS": f"{ros.distro or 'none sourced'}, {rclpy}",
        "middleware": f"{', '.join(ros.middlewares) or 'none'}; RMW_IMPLEMENTATION is {ros.asked or 'not set'}",
    }


def _named(facts: Facts, package: str) -> str:
    return f"{package} {facts.versions[package]}" if package in facts.versions else ""

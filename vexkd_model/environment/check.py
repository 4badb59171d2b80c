"""Checks of an installation: parts that do not fit together, each with its cure."""

import re
from collections.abc import Iterator

from vexkd_model.environment.facts import Facts
from vexkd_model.findings import FAIL, WARN, Finding
from vexkd_model.machine import has_code_for

SPCONV = re.compile(r"spconv-cu(\d\d)(\d)$")


def check(facts: Facts) -> list[Finding]:
    """Find what does not run, or runs worse than it could."""
    return [*_packages(facts), *_processor(facts), *_pytorch(facts), *_spconv(facts), *_ros(facts)]


def _packages(facts: Facts) -> Iterator[Finding]:
    for line in facts.unmet:
        yield Finding(FAIL, "requirements", f"{line}; `make setup`, or pip install what it asks for")
    for module, packages in facts.packages.items():
        if len(packages) > 1:
            cure = f"pip uninstall -y {' '.join(packages)}, and install one of them again"
            yield Finding(FAIL, module, f"{' and '.join(packages)} overwrite one another; {cure}")


def _processor(facts: Facts) -> Iterator[Finding]:
    if facts.x86 and "avx2" not in facts.instructions:
        yield Finding(WARN, "processor", "without AVX2, a student is several times as slow; take another machine")


def _pytorch(facts: Facts) -> Iterator[Finding]:
    driver = facts.driver
    if driver is None:
        if facts.nvidia_on_pci:
            yield Finding(WARN, "driver", "an NVIDIA GPU is there, but no driver; install it, or the CPU computes")
        return
    name = driver.gpus[0].name if driver.gpus else "a GPU"
    if facts.torch_cuda is None:
        if driver.gpus:
            cure = "pip install --force-reinstall torch from PyPI, not from the index of CPU builds"
            yield Finding(WARN, "PyTorch", f"is built without CUDA, and leaves {name} alone; {cure}")
    elif driver.cuda[0] < _major(facts.torch_cuda):  # within a major version, any driver runs any CUDA
        text = f"runs CUDA up to {_dotted(driver.cuda)}, PyTorch is built for {facts.torch_cuda}"
        cure = f"install a newer driver, or a PyTorch for CUDA {driver.cuda[0]}"
        yield Finding(FAIL, "driver", f"{text}; {cure}")
    elif driver.gpus and not facts.torch_sees_gpu:
        yield Finding(FAIL, "PyTorch", f'cannot use {name}; python -c "import torch; torch.cuda.init()" says why')
    else:
        for gpu in driver.gpus:
            if not has_code_for(gpu.capability, facts.torch_kernels):
                text = f"{facts.torch} has no code for {gpu.name}, of compute capability {_dotted(gpu.capability)}"
                yield Finding(FAIL, "PyTorch", f"{text}; install a version that has it, or choose device cpu")


def _spconv(facts: Facts) -> Iterator[Finding]:
    """Check the build that is installed. It brings a CUDA of its own, so that only the driver has to be new enough."""
    packages = facts.packages.get("spconv", [])
    if len(packages) != 1:
        return
    name, built = packages[0], SPCONV.match(packages[0])
    if built is None:
        if facts.torch_sees_gpu:
            text = "is the CPU build, so that on the GPU voxels run on plain PyTorch"
            yield Finding(WARN, "spconv", f"{text}; install spconv-cu126 in its place (docs/install.md)")
        return
    cuda = int(built[1]), int(built[2])
    if facts.driver is None or facts.torch_cuda is None:
        lacking = "a driver" if facts.driver is None else "a PyTorch"
        cure = f"pip uninstall -y {name}, then pip install spconv"
        yield Finding(WARN, "spconv", f"{name} is for a GPU, and there is not {lacking} for one; {cure}")
    elif facts.driver.cuda[0] < cuda[0]:
        text = f"{name} is built for CUDA {_dotted(cuda)}, the driver runs up to {_dotted(facts.driver.cuda)}"
        yield Finding(FAIL, "spconv", f"{text}; install a newer driver, or uninstall {name}: PyTorch takes its place")
    elif _major(facts.torch_cuda) != cuda[0]:
        text = f"{name} is built for CUDA {_dotted(cuda)}, PyTorch for {facts.torch_cuda}: nobody tried that"
        cure = f"where voxels fail, install a PyTorch for CUDA {cuda[0]}, or uninstall {name}"
        yield Finding(WARN, "spconv", f"{text}; {cure}")


def _ros(facts: Facts) -> Iterator[Finding]:
    ros = facts.ros
    make = f"source /opt/ros/{ros.distro}/setup.bash and `make setup`" if ros.distro else "`make setup`"
    if ros.rclpy is None:
        text = f"Python {facts.python} finds no rclpy: trainings run, nodes do not"
        yield Finding(FAIL if ros.distro else WARN, "ROS", f"{text}; {make} (docs/install.md)")
        return
    if not ros.extension_fits:
        text = f"{ros.rclpy} is compiled for another Python than {facts.python}"
        yield Finding(FAIL, "ROS", f"{text}; rm -r .venv, {make}, which takes ROS's own Python")
    if ros.distro and "ros-rclpy" in facts.versions:
        cure = f"unset it in a new shell, or rm -r .venv, {make}"
        yield Finding(WARN, "ROS", f"{ros.distro} is sourced, and this environment holds another ROS; {cure}")
    if ros.lacking:
        packages = " ".join(_debian(name, ros.distro) for name in ros.lacking)
        yield Finding(
            FAIL, "ROS", f"lacks {', '.join(ros.lacking)}; {f'apt install {packages}' if ros.distro else make}"
        )
    if ros.asked and ros.asked not in ros.middlewares:
        cure = f"unset it{f', or apt install {_debian(ros.asked, ros.distro)}' if ros.distro else ''}"
        there = ", ".join(ros.middlewares) or "none"
        yield Finding(FAIL, "RMW_IMPLEMENTATION", f"{ros.asked} is not installed, but {there}; {cure}")
    numpy = facts.versions.get("numpy", "1")
    if ros.compiled_bridge and _major(numpy) >= 2:
        text = f"{numpy}, beside a cv_bridge that is compiled for numpy 1: nodes that use it crash"
        yield Finding(FAIL, "numpy", f"{text}; pip install 'numpy<2'")


def _debian(package: str, distro: str | None) -> str:
    return f"ros-{distro}-{package.replace('_', '-')}"


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"

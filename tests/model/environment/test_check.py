"""Each misfit that users report is found, and named with its cure; what fits is left alone."""

from dataclasses import replace

import pytest

from vexkd_model.environment.check import check
from vexkd_model.environment.cuda_driver import Driver, Gpu
from vexkd_model.environment.facts import Facts
from vexkd_model.environment.ros import Ros
from vexkd_model.findings import FAIL, WARN

H100, BLACKWELL = Gpu("NVIDIA H100", (9, 0)), Gpu("NVIDIA B200", (10, 0))
SOURCED = Ros("jazzy", "/opt/ros/jazzy/lib/python3.12/site-packages/rclpy", True, ("rmw_fastrtps_cpp",))
CPU = Facts("3.12.3", "2.13.0+cpu", packages={"spconv": ["spconv"]}, versions={"numpy": "1.26.4"}, ros=SOURCED)
GPU = replace(
    CPU,
    torch="2.13.0",
    torch_cuda="12.6",
    torch_sees_gpu=True,
    torch_kernels=("sm_80", "sm_90"),
    driver=Driver((12, 4), (H100,)),
    nvidia_on_pci=True,
    packages={"spconv": ["spconv-cu126"]},
)
PILLARS = replace(GPU, packages={})


def with_ros(facts, **changes):
    return replace(facts, ros=replace(facts.ros, **changes))


def test_installations_that_fit_have_no_findings():
    newer_driver = replace(GPU, driver=Driver((13, 0), (H100,)))
    chosen_middleware = with_ros(GPU, asked="rmw_fastrtps_cpp")
    compiled_by_the_driver = replace(GPU, torch_kernels=("sm_80", "compute_90"), driver=Driver((13, 0), (BLACKWELL,)))
    for facts in (CPU, GPU, PILLARS, newer_driver, chosen_middleware, compiled_by_the_driver):
        assert check(facts) == []


@pytest.mark.parametrize(
    ("facts", "level", "about", "cause", "cure"),
    [
        (
            replace(PILLARS, driver=Driver((11, 8), (H100,)), torch_sees_gpu=False),
            FAIL,
            "driver",
            "11.8",
            "newer driver",
        ),
        (replace(PILLARS, torch_cuda=None, torch_sees_gpu=False), WARN, "PyTorch", "NVIDIA H100", "from PyPI"),
        (replace(GPU, torch_sees_gpu=False), FAIL, "PyTorch", "cannot use NVIDIA H100", "torch.cuda.init()"),
        (replace(GPU, driver=Driver((13, 0), (BLACKWELL,))), FAIL, "PyTorch", "compute capability 10.0", "install"),
        (replace(CPU, nvidia_on_pci=True), WARN, "driver", "no driver", "install it"),
        (replace(GPU, packages={"spconv": ["spconv"]}), WARN, "spconv", "CPU build", "spconv-cu126"),
        (replace(CPU, packages={"spconv": ["spconv-cu120"]}), WARN, "spconv", "for a GPU", "pip install spconv"),
        (
            replace(GPU, torch_cuda="13.0", driver=Driver((13, 0), (H100,))),
            WARN,
            "spconv",
            "CUDA 12.6, PyTorch for 13.0",
            "a PyTorch for CUDA 12",
        ),
        (
            replace(GPU, packages={"spconv": ["spconv", "spconv-cu126"]}),
            FAIL,
            "spconv",
            "overwrite one another",
            "pip uninstall -y spconv spconv-cu126",
        ),
        (
            replace(CPU, unmet=("vexkd-ros 0.1.0 has requirement numpy<2,>=1.26, but you have numpy 2.3.1.",)),
            FAIL,
            "requirements",
            "numpy 2.3.1",
            "make setup",
        ),
        (replace(CPU, instructions=()), WARN, "processor", "without AVX2", "another machine"),
        (with_ros(CPU, rclpy=None), FAIL, "ROS", "Python 3.12.3 finds no rclpy", "source /opt/ros/jazzy/setup.bash"),
        (with_ros(CPU, rclpy=None, distro=None), WARN, "ROS", "trainings run, nodes do not", "make setup"),
        (with_ros(CPU, extension_fits=False), FAIL, "ROS", "for another Python than 3.12.3", "rm -r .venv"),
        (
            replace(CPU, versions={"ros-rclpy": "9.1.2"}),
            WARN,
            "ROS",
            "jazzy is sourced, and this environment holds another ROS",
            "rm -r .venv",
        ),
        (with_ros(CPU, lacking=("vision_msgs",)), FAIL, "ROS", "vision_msgs", "apt install ros-jazzy-vision-msgs"),
        (
            with_ros(CPU, asked="rmw_zenoh_cpp"),
            FAIL,
            "RMW_IMPLEMENTATION",
            "rmw_zenoh_cpp is not installed, but rmw_fastrtps_cpp",
            "apt install ros-jazzy-rmw-zenoh-cpp",
        ),
        (
            with_ros(replace(CPU, versions={"numpy": "2.3.1"}), compiled_bridge=True),
            FAIL,
            "numpy",
            "cv_bridge",
            "pip install 'numpy<2'",
        ),
    ],
)
def test_a_misfit_is_one_line_with_its_cure(facts, level, about, cause, cure):
    (finding,) = check(facts)
    assert (finding.level, finding.about) == (level, about)
    text, _, advice = finding.text.partition("; ")
    assert cause in text and cure in advice and "\n" not in finding.text

"""Facts of this machine against what it says of itself elsewhere, and of a driver and a ROS that are made for it."""

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path

import pytest

ASK_DRIVER = "from vexkd_model.environment.cuda_driver import read_driver; print(read_driver())"
ASK_ROS = (
    "import sys; from vexkd_model.environment.ros import read_ros; print(read_ros()); assert 'rclpy' not in sys.modules"
)
# Two GPUs behind NVIDIA's interface, https://docs.nvidia.com/cuda/cuda-driver-api.
DRIVER = """
#include <stdio.h>
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuInit(unsigned flags) { return STATUS; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 7; return 0; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "GPU %d", device); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? device - 1 : -1;
  return 0;
}
"""


def printed(code, **variables):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_writes_what_this_machine_says_of_itself(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vexkd_model.cli", "env", "--json", str(tmp_path / "env.json")],
        capture_output=True,
        text=True,
        env={**os.environ, "RMW_IMPLEMENTATION": "rmw_of_nobody_cpp"},
    )
    found = json.loads((tmp_path / "env.json").read_text())
    failed = [finding["about"] for finding in found["findings"] if finding["level"] == "fail"]
    assert done.returncode == 1 and "RMW_IMPLEMENTATION" in failed, done.stderr
    assert "fail  RMW_IMPLEMENTATION: rmw_of_nobody_cpp is not installed" in done.stdout
    facts = found["facts"]
    assert (facts["python"], facts["torch"]) == (platform.python_version(), version("torch"))
    assert facts["versions"]["numpy"] == version("numpy")
    flags = Path("/proc/cpuinfo").read_text().split()
    assert ("avx2" in facts["instructions"]) == ("avx2" in flags)
    assert ("bf16" in facts["instructions"]) == ("avx512_bf16" in flags)
    assert ("amx" in facts["instructions"]) == ("amx_bf16" in flags)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    ("status", "gpus"),
    [
        (0, "(Gpu(name='GPU 7', capability=(8, 6)), Gpu(name='GPU 8', capability=(8, 7)))"),
        (100, "()"),  # CUDA_ERROR_NO_DEVICE
    ],
)
def test_a_driver_says_what_it_runs_and_on_what(tmp_path, status, gpus):
    (tmp_path / "driver.c").write_text(DRIVER.replace("STATUS", str(status)))
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    assert printed(ASK_DRIVER, LD_LIBRARY_PATH=str(tmp_path)) == f"Driver(cuda=(12, 4), gpus={gpus})"


def test_ros_is_told_from_its_files_without_an_import(tmp_path):
    packages, prefix = tmp_path / "python", tmp_path / "ros"
    for package in ("rclpy", "cv_bridge", "sensor_msgs", "vision_msgs"):
        (packages / package).mkdir(parents=True)
        (packages / package / "__init__.py").write_text("raise AssertionError('imported')")
    (packages / "cv_bridge" / "cv_bridge_boost.so").touch()
    extension = packages / "rclpy" / f"_rclpy_pybind11{EXTENSION_SUFFIXES[0]}"
    extension.touch()
    (prefix / "share/ament_index/resource_index/rmw_typesupport").mkdir(parents=True)
    (prefix / "share/ament_index/resource_index/rmw_typesupport/rmw_made_up_cpp").touch()
    variables = {
        "PYTHONPATH": f"{packages}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "AMENT_PREFIX_PATH": str(prefix),
        "ROS_DISTRO": "jazzy",
        "RMW_IMPLEMENTATION": "rmw_other_cpp",
    }
    told = printed(ASK_ROS, **variables)
    assert f"distro='jazzy', rclpy='{packages / 'rclpy'}', extension_fits=True" in told
    assert "'rmw_made_up_cpp'" in told and "asked='rmw_other_cpp'" in told and "compiled_bridge=True" in told
    extension.rename(extension.with_name("_rclpy_pybind11.cpython-27-other.so"))
    assert "extension_fits=False" in printed(ASK_ROS, **variables)

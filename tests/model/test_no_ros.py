"""Training runs without ROS, and prediction starts fast."""

import subprocess
import sys

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys, vexkd_model
for module in pkgutil.walk_packages(vexkd_model.__path__, "vexkd_model."):
    importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""
ROS = {
    "rclpy",
    "rpyutils",
    "ament_index_python",
    "rosidl_parser",
    "rosbags",
    "cv_bridge",
    "tf2_py",
    "launch",
    "builtin_interfaces",
    "vexkd_ros",
}


def test_no_module_of_vexkd_model_imports_ros():
    done = subprocess.run([sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "torch" in loaded
    assert not loaded & ROS and not {name for name in loaded if name.endswith("_msgs")}

"""Imports of the node: none that only training or another student needs, for they cost time at every start."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vexkd_ros

NOT_NEEDED = {
    "nuscenes",
    "pyarrow",
    "lightning",
    "transformers",
    "matplotlib",
    "shapely",
    "tensorboard",
    "torchmetrics",
    "rosbags",
    "spconv",
    "huggingface_hub",
    "scipy",
    "pandas",
}


def test_the_node_imports_nothing_that_it_does_not_need():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, vexkd_ros.student_node; print(*sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"torch", "rclpy"} <= loaded
    assert not loaded & NOT_NEEDED


@pytest.mark.parametrize(
    ("folder", "below"),
    [("health", set()), ("inputs", {"health", "student_parameters"}), ("outputs", {"health", "student_parameters"})],
)
def test_inputs_and_outputs_know_of_health_but_neither_of_each_other_nor_of_the_node(folder, below):
    modules = sorted((Path(vexkd_ros.__file__).parent / folder).glob("*.py"))
    imported = {name for module in modules for name in re.findall(r"vexkd_ros\.(\w+)", module.read_text())}
    assert len(modules) > 1 and imported <= below | {folder}

"""The launch file, where ROS's launch is installed, and the RViz configuration."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from vexkd_model.types import MAP_CLASSES

REPOSITORY = Path(__file__).parents[3]
LAUNCH_FILE = REPOSITORY / "launch" / "student.launch.py"


def test_the_launch_file_starts_the_node_and_offers_its_arguments():
    pytest.importorskip("launch_ros", reason="launch and launch_ros come with a ROS installation, not from PyPI")
    from launch.actions import DeclareLaunchArgument

    spec = importlib.util.spec_from_file_location("student_launch", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    description = module.generate_launch_description()
    arguments = {entity.name for entity in description.entities if isinstance(entity, DeclareLaunchArgument)}
    assert arguments == {"model", "points", "params_file", "device", "use_sim_time", "rviz"}


def test_the_launch_file_is_python():
    compile(LAUNCH_FILE.read_text(), str(LAUNCH_FILE), "exec")


def test_rviz_shows_points_markers_transforms_and_every_map_class():
    manager = yaml.safe_load((REPOSITORY / "config" / "rviz" / "vexkd.rviz").read_text())["Visualization Manager"]
    topics = {display["Topic"]["Value"] for display in manager["Displays"] if "Topic" in display}
    assert topics == {"/lidar/points", "/student_node/markers", "/student_node/map_image",
                      *(f"/student_node/map/{name}" for name in MAP_CLASSES)}
    assert "rviz_default_plugins/TF" in {display["Class"] for display in manager["Displays"]}
    assert manager["Global Options"]["Fixed Frame"] == "base_link"

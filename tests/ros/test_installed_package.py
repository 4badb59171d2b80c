"""What `colcon build` installs is a whole ROS package: `ros2 run` finds its programs, and its node runs from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rclpy
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray

from vexkd_model.config import load_config
from vexkd_model.deploy.package import save_package
from vexkd_model.model import build_model

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "student_node",
    "comparison_node",
    "track_node",
    "nuscenes_to_bag",
    "bag_to_nuscenes",
    "bag_player",
    "bag_recorder",
    "bag_evaluator",
    "bag_view",
    "ros",
    "doctor",
    "vexkd",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, colcon: list[str]) -> Path:
    """A colcon workspace's folder, outside the repository, with the repository built in it."""
    folder = tmp_path_factory.mktemp("workspace")
    build = subprocess.run(
        [*colcon, "build", "--base-paths", ROOT],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert build.returncode == 0, build.stdout
    return folder


@pytest.fixture
def prefix(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the ament index says that vexkd_ros is installed, as `ros2 run` and launch files ask it."""
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(workspace / "install/vexkd_ros"))
    return Path(get_package_prefix("vexkd_ros"))


@pytest.fixture
def untrained_package(tmp_path: Path) -> Path:
    config = load_config(ROOT / "config/model/lidar_pillar_small.yaml")
    folder = tmp_path / "untrained"
    save_package(folder, build_model(config), config, trained_on={}, metrics={}, source_revision="test")
    return folder


def in_workspace(workspace: Path, *command: str | Path) -> list[str]:
    """The command as a user runs it: in a shell that has sourced the workspace."""
    return ["bash", "-c", 'source "$0" && exec "$@"', str(workspace / "install/setup.bash"), *map(str, command)]


def wait_for_diagnostics(status_name: str, process: subprocess.Popen, seconds: float) -> None:
    """Return when a status whose name contains `status_name` comes over DDS; fail when the process ends before."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("test_installed_package", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    names: list[str] = []
    node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda message: names.extend(status.name for status in message.status), 10
    )
    deadline = time.monotonic() + seconds
    try:
        while not any(status_name in name for name in names):
            assert process.poll() is None, "the node ended by itself"
            assert time.monotonic() < deadline, f"no diagnostics of {status_name} in {seconds} s, only {names}"
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_colcon_installs_every_program_where_ros2_run_looks(prefix):
    programs = {path.name for path in (prefix / "lib/vexkd_ros").iterdir() if os.access(path, os.X_OK)}
    assert programs == PROGRAMS


def test_colcon_installs_every_program_by_links_too(tmp_path, colcon):
    build = subprocess.run(
        [*colcon, "build", "--symlink-install", "--base-paths", ROOT],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert build.returncode == 0, build.stdout
    assert {path.name for path in (tmp_path / "install/vexkd_ros/lib/vexkd_ros").iterdir()} == PROGRAMS


def test_colcon_installs_launch_files_configuration_and_models_to_share(prefix):
    share = Path(get_package_share_directory("vexkd_ros"))
    in_repository = {
        path.relative_to(ROOT)
        for folder in ("launch", "config", "models")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert Path("config/model/lidar_pillar_small.yaml") in in_repository
    assert [path for path in in_repository if not (share / path).is_file()] == []
    assert (share / "package.xml").is_file()


def test_the_installed_modules_are_found_before_the_repository(workspace):
    where = subprocess.run(
        in_workspace(
            workspace,
            sys.executable,
            "-c",
            "import vexkd_ros, vexkd_model;print(vexkd_ros.__file__); print(vexkd_model.__file__)",
        ),
        cwd=workspace,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert len(where.split()) == 2
    assert all(line.startswith(str(workspace / "install/vexkd_ros")) for line in where.splitlines())


def test_the_page_of_bag_view_is_installed_with_its_module(prefix):
    assert [path.name for path in prefix.rglob("vexkd_ros/bags/view/view.html")] == ["view.html"]


def test_the_installed_node_becomes_active_and_ends_well_on_ctrl_c(workspace, prefix, untrained_package):
    node = subprocess.Popen(
        in_workspace(
            workspace, prefix / "lib/vexkd_ros/student_node", "--ros-args", "-p", f"model:={untrained_package}"
        ),
        cwd=workspace,
    )
    try:
        wait_for_diagnostics("student_node", node, 60.0)
        node.send_signal(signal.SIGINT)
        assert node.wait(15.0) == 0
    finally:
        node.kill()
        node.wait()

"""The launch files as `ros2 launch` runs them: real processes over real DDS, where ROS's launch is installed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from visualization_msgs.msg import MarkerArray

from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.package import save_package
from vexkd_model.model import build_model
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.share import REPOSITORY

FILES = {name: REPOSITORY / "launch" / f"{name}.launch.py" for name in ("student", "replay", "evaluate")}
TIMEOUT_S = 120.0
needs_launch = pytest.mark.skipif(
    find_spec("launch_ros") is None, reason="launch and launch_ros come with a ROS installation, not from PyPI"
)
LAUNCH = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
from launch import LaunchDescription

file, *arguments = sys.argv[1:]
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    AnyLaunchDescriptionSource(file), launch_arguments=[argument.split(":=", 1) for argument in arguments])]))
sys.exit(service.run())
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An ament prefix that points into the source tree, as `colcon build --symlink-install` makes one."""
    prefix = tmp_path_factory.mktemp("prefix")
    marker, programs = prefix / "share/ament_index/resource_index/packages/vexkd_ros", prefix / "lib/vexkd_ros"
    marker.parent.mkdir(parents=True)
    marker.touch()
    (prefix / "share/vexkd_ros").symlink_to(REPOSITORY)
    programs.mkdir(parents=True)
    for name in re.findall(r"^def (\w+)", (REPOSITORY / "vexkd_ros/programs.py").read_text(), re.MULTILINE):
        program = programs / name
        program.write_text(
            f"#!{sys.executable}\nimport sys\nfrom vexkd_ros.programs import {name} as main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
    search = os.pathsep.join(filter(None, (str(prefix), os.environ.get("AMENT_PREFIX_PATH"), sys.prefix)))
    return os.environ | {
        "AMENT_PREFIX_PATH": search,
        "ROS_LOG_DIR": str(prefix / "log"),
        "PYTHONPATH": os.pathsep.join((str(REPOSITORY), os.environ.get("PYTHONPATH", ""))),
    }


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_package("lidar_pillar_small", tmp_path_factory.mktemp("packages"))


def untrained_package(model: str, folder: Path) -> Path:
    config = load_config(REPOSITORY / "config/model" / f"{model}.yaml")
    save_package(folder / model, build_model(config), config, trained_on={}, metrics={}, source_revision="test")
    return folder / model


@pytest.fixture(scope="module")
def bag(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(tiny_dataset, "v1.0-mini", tmp_path_factory.mktemp("bags"))[0]


def launch(environment: dict[str, str], name: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a launch file to its end."""
    return subprocess.run(
        command(name, *arguments),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", LAUNCH, str(FILES[name]), *map(str, arguments)]


@pytest.fixture
def comparisons() -> Iterator[Callable[[], list[MarkerArray]]]:
    """Subscribes to /comparison_node/markers; call it for what has come until now."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    received: list[MarkerArray] = []
    node.create_subscription(MarkerArray, "/comparison_node/markers", received.append, 100)

    def collect() -> list[MarkerArray]:
        for _ in range(20):
            executor.spin_once(timeout_sec=0.05)
        return received

    yield collect
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_a_launch_file_is_python_and_says_how_it_is_called(file: Path) -> None:
    code = compile(file.read_text(), str(file), "exec")
    assert f"ros2 launch vexkd_ros {file.name}" in code.co_consts[0]


@needs_launch
@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_described_and_what_has_choices_offers_them(
    name: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    monkeypatch.setenv("AMENT_PREFIX_PATH", environment["AMENT_PREFIX_PATH"])
    arguments = {
        a.name: a for a in get_launch_description_from_python_launch_file(str(FILES[name])).get_launch_arguments()
    }
    assert arguments.keys() >= {
        "modality",
        "model",
        "points",
        "params_file",
        "device",
        "use_sim_time",
        "namespace",
        "rviz",
        "tf",
    }
    assert [n for n, a in arguments.items() if not a.description or a.description == "no description given"] == []
    assert arguments["modality"].choices == ["lidar", "camera"]


@needs_launch
def test_a_modality_that_does_not_exist_ends_the_launch(environment: dict[str, str]) -> None:
    done = launch(environment, "student", "modality:=radar")
    assert done.returncode == 1 and "['lidar', 'camera']" in done.stdout


@needs_launch
def test_a_student_that_cannot_be_loaded_ends_the_replay(
    environment: dict[str, str], bag: Path, tmp_path: Path
) -> None:
    done = launch(environment, "replay", f"bags:={bag}", "rviz:=false", f"model:={tmp_path / 'nothing'}")
    assert done.returncode == 1 and re.search(r"student_node\S* ended with exit code 1", done.stdout)


@needs_launch
def test_a_replay_shows_the_student_beside_what_is_true(
    environment: dict[str, str], bag: Path, untrained: Path, comparisons: Callable[[], list[MarkerArray]]
) -> None:
    done = launch(environment, "replay", f"bags:={bag}", "rviz:=false", f"model:={untrained}", "rate:=0.2")
    assert done.returncode == 0, done.stdout
    summaries = [array.markers[-1].text for array in comparisons()]
    assert summaries and all(re.fullmatch(r"\d+ hits, \d+ false alarms, \d+ misses", text) for text in summaries)


@needs_launch
def test_one_launch_leads_from_a_bag_to_official_figures(
    environment: dict[str, str], bag: Path, untrained: Path, tiny_dataset: Path, tiny_index: FrameIndex, tmp_path: Path
) -> None:
    done = launch(
        environment,
        "evaluate",
        f"bags:={bag}",
        f"dataroot:={tiny_dataset}",
        "version:=v1.0-mini",
        f"index:={tiny_index.folder.parent}",
        f"model:={untrained}",
        "namespace:=second",
        f"out:={tmp_path / 'published'}",
        f"json:={tmp_path / 'figures.json'}",
        "rate:=0.05",
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "figures.json").is_file() and "mAP" in done.stdout


@needs_launch
def test_cameras_of_any_name_reach_the_student_and_arguments_beat_the_parameter_file(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text("/**/student_node: {ros__parameters: {model: none, image_transport: raw, use_reference: true}}")
    arguments = (
        "modality:=camera",
        f"model:={untrained_package('bevdet_small', tmp_path)}",
        "namespace:=/upper",
        "cameras:=a,b,c,d,e,f",
        "image:=/sensing/{camera}/image_raw",
        "camera_info:=/sensing/{camera}/info",
        "image_transport:=compressed",
        f"params_file:={file}",
        "tf:=/robot1/tf",
    )
    rclpy.init()
    node = rclpy.create_node("observer")
    process = subprocess.Popen(
        command("student", *arguments), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wanted = {
        "/upper/reference",
        "/robot1/tf",
        "/robot1/tf_static",
        *(f"/sensing/{camera}/{name}" for camera in "abcdef" for name in ("info", "image_raw/compressed")),
    }
    deadline, read = time.monotonic() + TIMEOUT_S, set()
    try:
        while not wanted <= read and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.2)
            if ("student_node", "/upper") in node.get_node_names_and_namespaces():
                read = {topic for topic, _ in node.get_subscriber_names_and_types_by_node("student_node", "/upper")}
        assert wanted <= read
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
        node.destroy_node()
        rclpy.shutdown()

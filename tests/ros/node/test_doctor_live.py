"""The doctor as a process of its own beside real publishers: a healthy LiDAR passes, a sick one is told why."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from vexkd_model.synth.lidar import scan
from vexkd_model.synth.world import build_world, random_stream

SHIPPED = Path(__file__).parents[3] / "models" / "lidar_distilled"
INTERVAL_S = 0.1
Diagnosis = tuple[int, list[tuple[str, str, str]]]


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    """float32 (N, 4): a synthetic street, as the LiDAR of the tests' vehicle sees it."""
    return scan(build_world(44, 1, 1.0), 0.0, random_stream(44, 1, 1, 0)).points[:, :4]


@pytest.fixture
def doctor(tmp_path: Path) -> Iterator[Callable[..., Diagnosis]]:
    def run(*options: str) -> Diagnosis:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "vexkd_ros.doctor.command",
                "--seconds",
                "3",
                "--json",
                str(tmp_path / "findings.json"),
                *options,
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
        found = json.loads((tmp_path / "findings.json").read_text())["findings"]
        assert len(done.stdout.splitlines()) == len(found)
        return done.returncode, [(one["level"], one["about"], one["text"]) for one in found]

    yield run


class Stream:
    """Calls `send` ten times a second, until the block is left."""

    def __init__(self, send: Callable[[int], None]) -> None:
        self._send, self._over = send, threading.Event()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self._send(time.time_ns())


def test_a_healthy_lidar_passes_every_check(vehicle, make_cloud, street, doctor):
    cloud = make_cloud(street)
    with Stream(lambda now: vehicle.send(cloud, now)):
        code, findings = doctor("--student", str(SHIPPED))
    assert code == 0, findings
    assert not [found for found in findings if found[0] == "fail"]
    about = {about: text for level, about, text in findings if level == "ok"}
    assert "as in the training of lidar_pillar_small" in about["sensor fit, lidar"]
    assert {"base_link → lidar_top", "odom → base_link", "/points"} <= about.keys()
    assert "ms old when they arrive" in " ".join(text for _, topic, text in findings if topic == "/points")


def test_a_sick_lidar_is_told_everything_at_once(vehicle, make_cloud, street, doctor):
    """Best effort where reliable is asked, on another topic, an hour ahead, without odometry, intensity to 1."""
    cloud = make_cloud(street * np.float32([1, 1, 1, 1 / 255]))
    publisher = vehicle.node.create_publisher(
        PointCloud2, "/velodyne_points", QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    )

    def send(now: int) -> None:
        cloud.header.stamp.sec, cloud.header.stamp.nanosec = divmod(now + 3600 * 10**9, 10**9)
        publisher.publish(cloud)

    with Stream(send):
        code, findings = doctor(
            "--student", str(SHIPPED), "--points", "/velodyne_points", "--input-reliability", "reliable"
        )
    vehicle.in_executor(lambda: vehicle.node.destroy_publisher(publisher))
    assert code == 1
    expected = {
        ("fail", "/velodyne_points", "/vehicle offers /velodyne_points best effort"),
        ("warn", "/velodyne_points", "stamps are 3600.0 s ahead of this machine's clock"),
        ("warn", "odom → base_link", "only the newest sweep is used"),
        ("fail", "sensor fit, lidar", "let the driver publish 0 … 255"),
        ("ok", "base_link → lidar_top", "known at all"),
    }
    for level, about, said in expected:
        assert any((level, about) == found[:2] and said in found[2] for found in findings), (said, findings)


def test_a_topic_that_nobody_publishes_is_said_to_be_so_and_a_camera_beside_it_is_examined(vehicle, doctor):
    """Without a student; the vehicle of these tests advertises /points, and is silent."""
    image = Image(height=36, width=64, encoding="rgb8", step=192, data=bytes(36 * 192))
    info = CameraInfo(height=36, width=64, k=[50.0, 0.0, 32.0, 0.0, 50.0, 18.0, 0.0, 0.0, 1.0])
    publishers = [
        (vehicle.node.create_publisher(type(message), topic, 5), message)
        for topic, message in (("/front/image_raw", image), ("/front/camera_info", info))
    ]

    def send(now: int) -> None:
        for publisher, message in publishers:
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
            message.header.frame_id = "lidar_top"
            publisher.publish(message)

    with Stream(send):
        code, findings = doctor("--points", "/lidar/points")
    assert code == 1
    assert ("fail", "/lidar/points", "nobody publishes /lidar/points: remap to one of /points") in findings
    assert ("ok", "/front/image_raw", "64×36 px, 65° wide by its CameraInfo") in findings
    assert [found[:2] for found in findings if found[0] != "ok"] == [
        ("fail", "/lidar/points"),
        ("warn", "odom → base_link"),
    ]


def test_wrong_ros_arguments_end_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "vexkd_ros.doctor.command", "--ros-args", "-r", "nonsense"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("vexkd-doctor: ROS: ")  # before it rcl's own

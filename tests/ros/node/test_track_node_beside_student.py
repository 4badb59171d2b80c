"""Real student_node and track_node processes side by side: velocities go from one to the other over DDS."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from sensor_msgs.msg import PointCloud2
from support.clock import wait_for
from support.messages import SECOND

TRACK_NODE = [sys.executable, "-m", "vexkd_ros.track_node", "--ros-args", "-r", "detections:=/student_node/detections"]
STEP_NS = 100_000_000


@pytest.fixture
def track_log(tmp_path) -> Iterator:
    log = tmp_path / "track_node.log"
    with log.open("wb") as written, subprocess.Popen(TRACK_NODE, stderr=written) as process:
        yield log
        process.kill()


@pytest.fixture
def velocities(vehicle) -> dict[int, np.ndarray]:
    """Collect the messages of the student's ~/velocities: vx and vy (M, 2) [m/s] by stamp [ns]."""
    received: dict[int, np.ndarray] = {}

    def keep(message: PointCloud2) -> None:
        stamp = message.header.stamp.sec * SECOND + message.header.stamp.nanosec
        received[stamp] = np.frombuffer(bytes(message.data), "<f4").reshape(-1, 5)[:, 3:]

    vehicle.node.create_subscription(PointCloud2, "student_node/velocities", keep, 20)
    return received


def test_the_track_node_takes_the_velocities_of_the_student(track_log, lidar_node, vehicle, velocities, make_cloud):
    vehicle.wait_for(lambda: vehicle.node.count_subscribers("student_node/velocities") == 2, "a track_node")
    stamp = vehicle.send(make_cloud(np.random.default_rng(0).uniform(-20, 20, (2000, 4))))

    def is_said() -> bool:
        nonlocal stamp
        vehicle.wait_for(lambda: stamp in velocities, f"velocities of {stamp}")
        stamp = vehicle.send(make_cloud(np.random.default_rng(0).uniform(-20, 20, (2000, 4))), stamp + STEP_NS)
        return "takes measured velocities from /student_node/velocities" in track_log.read_text()

    wait_for(is_said, "a track_node that takes velocities")
    arrows = [one.points for one in vehicle.result(stamp, "markers").markers if one.ns == "velocity"]
    shown = np.array([[end.x - start.x, end.y - start.y] for start, end in arrows]).reshape(-1, 2)
    vehicle.wait_for(lambda: stamp in velocities, f"velocities of {stamp}")
    found = velocities[stamp]
    assert len(found) == len(vehicle.result(stamp).detections) > 0
    np.testing.assert_allclose(found, shown, atol=1e-5)

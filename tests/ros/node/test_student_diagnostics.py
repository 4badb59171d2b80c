"""What a real student_node says on /diagnostics of its inputs, over DDS."""

import time
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

from vexkd_model.synth.lidar import scan
from vexkd_model.synth.world import build_world, random_stream

SHIPPED = Path(__file__).parents[3] / "models" / "lidar_distilled"


@pytest.fixture(scope="module", autouse=True)
def node(start_node, vehicle):
    node = start_node(model=SHIPPED, threads=1, input_reliability="reliable", stale_after=1.0)
    vehicle.wait_until_node_listens()
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture(scope="module")
def street():
    return scan(build_world(44, 1, 1.0), 0.0, random_stream(44, 1, 1, 0)).points[:, :4]


def newest(vehicle, part):
    return next((status for status in reversed(vehicle.statuses) if status.name.endswith(part)), None)


def drive(vehicle, cloud, until, seconds=60.0):
    """Clouds at 5 Hz until it holds."""
    deadline, stamp = time.monotonic() + seconds, vehicle.send(cloud)
    while not until():
        assert time.monotonic() < deadline, [(status.name, status.message) for status in vehicle.statuses[-3:]]
        stamp += 200_000_000
        vehicle.stamp_ns = stamp
        vehicle.send(cloud, stamp)
        time.sleep(0.2)


def told_again(vehicle):
    """Return a function that says whether two more messages of the sensor check have come."""

    def told():
        return sum(status.name.endswith("sensor fit") for status in vehicle.statuses)

    before = told()
    return lambda: told() >= before + 2


def test_a_lidar_whose_intensity_ends_at_one_is_named_with_its_cure_and_in_the_log_once(
    vehicle, make_cloud, street, node
):
    drive(
        vehicle,
        make_cloud(street * np.float32([1, 1, 1, 1 / 255])),
        lambda: "let the driver publish 0 … 255" in getattr(newest(vehicle, "sensor fit"), "message", ""),
    )
    assert newest(vehicle, "sensor fit").level == DiagnosticStatus.WARN
    drive(vehicle, make_cloud(street * np.float32([1, 1, 1, 1 / 255])), told_again(vehicle))
    assert node.log.count("lidar: 99 % of the intensities") == 1
    drive(vehicle, make_cloud(street), lambda: newest(vehicle, "sensor fit").level == DiagnosticStatus.OK)


def test_an_input_that_stops_is_stale_with_who_publishes_it_and_recovers(vehicle, make_cloud, street):
    drive(vehicle, make_cloud(street), lambda: newest(vehicle, ": student").level != DiagnosticStatus.STALE)
    vehicle.wait_for(lambda: newest(vehicle, ": student").level == DiagnosticStatus.STALE, "STALE")
    assert newest(vehicle, "input points").level == DiagnosticStatus.STALE
    assert "/vehicle publishes /points, but nothing comes" in newest(vehicle, ": student").message
    drive(
        vehicle,
        make_cloud(street),
        lambda: (
            newest(vehicle, "input points").level == DiagnosticStatus.OK
            and newest(vehicle, ": student").level != DiagnosticStatus.STALE
        ),
    )


def test_a_publisher_that_cannot_be_heard_is_named_with_its_cure(vehicle, node):
    """The node asks for reliable here, and the vehicle's own publisher is."""
    vehicle.node.create_publisher(PointCloud2, "points", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    vehicle.wait_for(
        lambda: (
            "a publisher of /points is not heard, its reliability does not suffice: set "
            "input_reliability:=best_effort" in node.log
        ),
        "the quality of service in the log",
    )
    time.sleep(0.3)  # for the vehicle to be told of it, too, before it ends

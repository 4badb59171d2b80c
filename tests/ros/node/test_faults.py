"""What a vehicle does to a LiDAR student, over real DDS: the node lives, says what is wrong, and answers what comes."""

import os
import resource
import signal
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image, PointCloud2
from support.rig import street_points

SWEEP_NS = 50_000_000
MB = 2**20
NOWHERE = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))


pytestmark = pytest.mark.usefixtures("lidar_node")


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """More than any LiDAR sends."""
    return street_points(300_000)


@pytest.fixture
def answers(vehicle, make_cloud, points):
    """Whether the node answers an ordinary cloud, as it did before."""

    def check() -> bool:
        return bool(vehicle.result(vehicle.send(make_cloud(points[:3000]))).detections)

    assert check()
    return check


def test_a_million_points_are_answered(vehicle, make_cloud, points, answers):
    stamp = vehicle.send(make_cloud(np.tile(points, (4, 1))[:1_000_000]))
    assert vehicle.result(stamp).detections
    assert answers()


def test_fields_that_nobody_knows_are_passed_over(vehicle, make_cloud, points, answers):
    more, names = np.insert(points[:3000], [0, 4], 7.0, axis=1), ("colour", "x", "y", "z", "intensity", "mood")
    plain, strange = (
        vehicle.result(vehicle.send(cloud)) for cloud in (make_cloud(points[:3000]), make_cloud(more, names))
    )
    assert [d.bbox for d in strange.detections] == [d.bbox for d in plain.detections]


def test_transforms_in_a_circle_are_named_and_forgotten_when_they_are_mended(vehicle, make_cloud, points, answers):
    vehicle.send_static("lidar_top", base_link=NOWHERE)
    vehicle.send(make_cloud(points[:3000]), pose=None)
    vehicle.status_that_says("the transforms run in a circle: ")
    vehicle.send_static("odom", base_link=NOWHERE)
    assert answers()


def test_two_publishers_on_one_topic_do_not_confuse_it(vehicle, make_cloud, points, answers):
    """Two LiDARs that share a topic: their stamps interleave, and each sweep is placed by its own frame."""
    second = vehicle.node.create_publisher(PointCloud2, "points", 20)
    vehicle.wait_for(second.get_subscription_count, "the node to listen to the second")
    start = vehicle.stamp_ns + 3600 * 10**9
    for i in range(4):
        cloud = make_cloud(points[:3000])
        cloud.header.stamp.sec, cloud.header.stamp.nanosec = divmod(start + i * SWEEP_NS + SWEEP_NS // 2, 10**9)
        vehicle.result(vehicle.send(make_cloud(points[:3000]), start + i * SWEEP_NS))
        vehicle.send_odometry(start + i * SWEEP_NS + SWEEP_NS // 2)
        second.publish(cloud)
        vehicle.result(start + i * SWEEP_NS + SWEEP_NS // 2)
    vehicle.stamp_ns = start + 10**9
    vehicle.in_executor(lambda: vehicle.node.destroy_publisher(second))
    assert answers()


def test_a_subscriber_that_never_reads_does_not_hold_it_up(vehicle, make_cloud, points, answers):
    vehicle.never_read(Image, "student_node/map_image")
    for _ in range(15):  # more than the reliable publisher's history
        assert answers()


def test_memory_that_does_not_suffice_costs_the_older_sweeps_and_is_said(
    lidar_node, vehicle, make_cloud, points, answers
):
    pid, cloud = lidar_node.process.pid, make_cloud(points)
    start = vehicle.stamp_ns + 3600 * 10**9
    for i in range(4):
        vehicle.result(vehicle.send(cloud, start + i * SWEEP_NS))
    heard, latencies = len(vehicle.statuses), vehicle.outputs["debug/latency"]

    def said():
        return any("out of memory" in status.message for status in vehicle.statuses[heard:])

    before = resource.prlimit(pid, resource.RLIMIT_AS)
    with open(f"/proc/{pid}/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    try:
        resource.prlimit(pid, resource.RLIMIT_AS, (used + 30 * MB, before[1]))
        # Larger and larger: the process has kept the memory that frames before freed, up to 256 MB of it.
        for number, copies in enumerate((2, 4, 6, 8), start=4):
            vehicle.stamp_ns = start + number * SWEEP_NS
            stamp = vehicle.send(make_cloud(np.tile(points, (copies, 1))), vehicle.stamp_ns)
            vehicle.wait_for(lambda stamp=stamp: stamp in latencies or said(), f"the end of frame {stamp}")
            if stamp not in latencies or vehicle.sweeps_used(stamp) == 1:
                break
        status = vehicle.status_that_says("out of memory")
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, before)
    assert status.level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
    assert answers()


def test_sigint_in_the_middle_of_an_inference_ends_it_cleanly(lidar_node, vehicle, make_cloud, points, answers):
    vehicle.send(make_cloud(np.tile(points, (4, 1))[:1_000_000]))
    time.sleep(0.2)
    assert lidar_node.stop(signal.SIGINT) == 0, lidar_node.log
    assert "Traceback" not in lidar_node.log

"""Messages that no driver should send, over real DDS, to a student_node: it lives, says why, and answers the next."""

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from support.rig import street_points

BROKEN = b"\xff\xfe\xfd"  # no UTF-8


pytestmark = pytest.mark.usefixtures("lidar_node")


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return street_points(3000)


@pytest.fixture
def is_dropped(vehicle, make_cloud, points):
    """Function of a message and a text: it is dropped with that text in /diagnostics, and the next cloud answered."""

    def check(message: PointCloud2 | bytes, text: str, publisher=None) -> None:
        vehicle.now_follows_an_input()
        (publisher or vehicle._points).publish(message)
        vehicle.send(make_cloud(points[:0, :2], names=("x", "y")))  # itself dropped: no output may hide the reason
        vehicle.status_that_says(text)
        assert vehicle.result(vehicle.send(make_cloud(points))).detections

    return check


@pytest.mark.parametrize("seconds", [-37, -(2**31)])
def test_a_stamp_before_1970_is_dropped(make_cloud, points, is_dropped, seconds):
    cloud = make_cloud(points)
    cloud.header.stamp.sec = seconds
    is_dropped(cloud, "the message's stamp lies before 1970 or after 2038; set the sensor's clock: " + str(seconds))


def test_a_stamp_whose_nanoseconds_overflow_is_dropped(make_cloud, points, is_dropped):
    cloud = make_cloud(points)
    cloud.header.stamp.sec, cloud.header.stamp.nanosec = 2**31 - 1, 2**32 - 1
    is_dropped(cloud, "before 1970 or after 2038")


def test_a_frame_id_that_is_no_utf8_is_dropped(make_cloud, points, is_dropped):
    data = serialize_message(make_cloud(points)).replace(b"lidar_top", b"lidar_" + BROKEN)
    is_dropped(data, "nothing on /tf or /tf_static names lidar_\ufffd")  # as rclpy reads what is no UTF-8


def test_half_a_message_is_dropped(make_cloud, points, is_dropped):
    is_dropped(serialize_message(make_cloud(points))[:1000], "a message on /points is no PointCloud2")


@pytest.mark.parametrize("offset", [2**31 - 1, 2**32 - 1])
def test_a_field_outside_its_point_is_dropped(make_cloud, points, is_dropped, offset):
    cloud = make_cloud(points)
    cloud.fields[3].offset = offset
    is_dropped(cloud, f"beyond its point_step; mend the driver: point_step is 16 bytes, intensity ends at {offset + 4}")


def test_transforms_that_are_damaged_are_left_out(vehicle, is_dropped, transforms):
    message = transforms([("odom", "wheel", vehicle.stamp_ns, (0, 0, 0), (1, 0, 0, 0))])
    is_dropped(serialize_message(message)[:-9], "a message on /tf is no TFMessage", vehicle._tf)
    message.transforms[0].header.stamp.sec = -37
    is_dropped(message, "the transform odom → wheel has a stamp before 1970", vehicle._tf)


def test_a_clock_before_1970_does_not_end_a_node_that_takes_its_time_from_it(vehicle, start_node, package):
    simulated = start_node("-r", "__node:=simulated", model=package, threads=1, use_sim_time="true")
    clock = vehicle.node.create_publisher(Clock, "/clock", 10)
    vehicle.wait_for(lambda: "active, waiting" in simulated.log, "an active node")
    vehicle.wait_for(clock.get_subscription_count, "the node to listen to /clock")
    message = Clock()
    message.clock.sec = -5

    def is_said() -> bool:
        clock.publish(message)
        return "a callback failed, the node goes on; ValueError" in simulated.log

    vehicle.wait_for(is_said, "the reason in the log")
    message.clock.sec = 5
    clock.publish(message)
    assert simulated.process.poll() is None
    assert simulated.stop() == 0, simulated.log

"""Why nothing comes on a topic, asked of real publishers over DDS."""

import time
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import LaserScan, PointCloud2
from support.clock import wait_for
from tf2_msgs.msg import TFMessage

from vexkd_ros.health.endpoints import (
    no_publisher_events,
    publisher_events,
    qos_offers,
    subscription_events,
    why_nothing_comes,
)
from vexkd_ros.health.qos_match import QosOffer, QosRequest, qos_mismatch

CLOUD, TF = "sensor_msgs/msg/PointCloud2", "tf2_msgs/msg/TFMessage"
RELIABLE, BEST_EFFORT = (
    QoSProfile(depth=1, reliability=policy) for policy in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
)


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Node, Node]]:
    """A driver and a student, each a participant of its own."""
    contexts = [rclpy.Context(), rclpy.Context()]
    for context in contexts:
        rclpy.init(context=context)
    driver, student = (
        rclpy.create_node(name, context=context) for name, context in zip(("driver", "student"), contexts, strict=True)
    )
    yield driver, student
    for node, context in zip((driver, student), contexts, strict=True):
        node.destroy_node()
        rclpy.shutdown(context=context)


def found(nodes: tuple[Node, Node], topic: str) -> None:
    wait_for(lambda: [offer.node for offer in qos_offers(nodes[1], topic)] == ["/driver"], f"a publisher of {topic}")


def test_a_topic_that_nobody_publishes_is_said_to_be_so_with_what_there_is_of_its_type(nodes):
    assert "nobody any sensor_msgs/msg/PointCloud2: start the sensor's driver" in why_nothing_comes(
        nodes[1], "/points", QosRequest(CLOUD, reliable=True)
    )
    nodes[0].create_publisher(PointCloud2, "/velodyne_points", RELIABLE)
    found(nodes, "/velodyne_points")
    assert why_nothing_comes(nodes[1], "/points", QosRequest(CLOUD, reliable=True)) == (
        "nobody publishes /points: remap to one of /velodyne_points"
    )


@pytest.mark.parametrize(
    ("kind", "offered", "asked", "said"),
    [
        (
            PointCloud2,
            BEST_EFFORT,
            QosRequest(CLOUD, True),
            "/driver offers /a1 best effort, the node asks for reliable",
        ),
        (PointCloud2, RELIABLE, QosRequest(CLOUD, False), "/driver publishes /a2, but nothing comes: is it running"),
        (LaserScan, RELIABLE, QosRequest(CLOUD, True), "/driver publishes /a3 as sensor_msgs/msg/LaserScan, not"),
        (PointCloud2, RELIABLE, QosRequest(CLOUD, True, latched=True), "/driver offers /a4 volatile, the node asks"),
    ],
    ids=["best effort", "compatible", "type", "latched"],
)
def test_what_a_publisher_offers_is_compared_with_what_is_asked(nodes, kind, offered, asked, said):
    topic = said.split()[2].rstrip(",")
    nodes[0].create_publisher(kind, topic, offered)
    found(nodes, topic)
    assert why_nothing_comes(nodes[1], topic, asked).startswith(said)


def test_a_quality_that_does_not_match_is_reported_to_both_ends_as_they_meet(nodes):
    reports: list[str] = []
    driver, student = nodes
    driver.create_publisher(PointCloud2, "/b", BEST_EFFORT, event_callbacks=publisher_events("/b", reports.append))
    student.create_subscription(
        PointCloud2, "/b", reports.append, RELIABLE, event_callbacks=subscription_events("/b", reports.append)
    )
    executors = [SingleThreadedExecutor(context=node.context) for node in nodes]
    for executor, node in zip(executors, nodes, strict=True):
        executor.add_node(node)
    deadline = time.monotonic() + 30
    while len(reports) < 2:
        assert time.monotonic() < deadline, reports
        for executor in executors:
            executor.spin_once(timeout_sec=0.05)
    assert any(said.startswith("a publisher of /b is not heard, its reliability does not suffice") for said in reports)
    assert any("does not hear this node, it asks for more reliability" in said for said in reports)
    for executor in executors:
        executor.shutdown()


def test_rclpy_looks_at_no_event_that_nobody_reports(nodes):
    """Each costs at every message; by itself rclpy adds two to whatever is created."""
    quiet = nodes[0].create_publisher(PointCloud2, "/c", RELIABLE, event_callbacks=no_publisher_events())
    loud = nodes[0].create_publisher(PointCloud2, "/c", RELIABLE, event_callbacks=publisher_events("/c", print))
    heard = nodes[1].create_subscription(
        PointCloud2, "/c", print, RELIABLE, event_callbacks=subscription_events("/c", print)
    )
    assert [len(entity.event_handlers) for entity in (quiet, loud, heard)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("topic", "cure"),
    [
        ("/points", "set input_reliability:=best_effort, or make the publisher reliable"),
        ("/tf", "make the publisher reliable, as tf2's broadcasters are"),
    ],
)
def test_the_cure_for_a_publisher_that_is_best_effort_names_a_parameter_only_where_it_governs_the_topic(topic, cure):
    mismatch = qos_mismatch(topic, QosOffer("/driver", TF, reliable=False, latched=False), QosRequest(TF, True))
    assert mismatch == f"/driver offers {topic} best effort, the node asks for reliable: {cure}"


def test_a_static_transform_that_is_not_latched_is_named(nodes):
    nodes[0].create_publisher(TFMessage, "/tf_static", RELIABLE)
    found(nodes, "/tf_static")
    assert "as every publisher of /tf_static must be" in why_nothing_comes(
        nodes[1], "/tf_static", QosRequest(TF, reliable=True, latched=True)
    )

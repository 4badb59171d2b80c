"""The outputs as topics: who pays for them, who gets them, with which quality of service. Two participants over DDS."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64, Header
from support.clock import ManualClock
from vision_msgs.msg import Detection3DArray, LabelInfo

from vexkd_model.config import ModelConfig, load_config
from vexkd_model.errors import UserError
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes, Prediction
from vexkd_ros.health.latency import Latency
from vexkd_ros.outputs.debug_times import DebugTimes
from vexkd_ros.outputs.detected_objects import LABELS, detected_objects_message
from vexkd_ros.outputs.publishers import Publishers, check_outputs
from vexkd_ros.share import REPOSITORY
from vexkd_ros.student_parameters import DEFAULT_OUTPUTS

TIMEOUT_S = 60.0
GRID = BevGrid(-2.0, 2.0, -2.0, 2.0, 1.0)
AUTOWARE = find_spec("autoware_perception_msgs") is not None
needs_autoware = pytest.mark.skipif(not AUTOWARE, reason="autoware_perception_msgs is not installed")


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_config(REPOSITORY / "config" / "model" / "lidar_pillar_small.yaml")


def prediction(boxes: tuple = ((10, 1, 0.5, 4, 2, 1.5, math.pi / 2, 0, 3),), labels: tuple = (0,)) -> Prediction:
    return Prediction(
        Boxes(np.array(boxes, np.float32), np.array(labels)),
        np.full(len(boxes), 0.5, np.float32),
        np.zeros((len(MAP_CLASSES), *GRID.shape), np.float32),
        GRID,
        0,
    )


class Side:
    """A node in a ROS context of its own, as another process has it."""

    def __init__(self, kind: type, name: str, *arguments: str) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=["test", "--ros-args", *arguments], context=self.context)
        self.node = kind(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def side() -> Iterator[Callable[..., Side]]:
    sides = []

    def make(*arguments: object) -> Side:
        sides.append(Side(*arguments))
        return sides[-1]

    yield make
    for made in sides:
        made.close()


@pytest.fixture
def student(side: Callable[..., Side]) -> Callable[..., LifecycleNode]:
    """A lifecycle node by the name student_node, with the given ROS arguments."""
    return lambda *arguments: side(LifecycleNode, "student_node", *arguments).node


def wait_for(condition: Callable[[], object], listener: Side) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        listener.executor.spin_once(timeout_sec=0.05)


def wait_until_they_meet(listener: Side, node: LifecycleNode, *topics: str) -> None:
    """Until both sides know of each other's ends of the topics."""
    wait_for(
        lambda: all(
            side.count_publishers(topic) and side.count_subscribers(topic)
            for side in (listener.node, node)
            for topic in topics
        ),
        listener,
    )
    time.sleep(0.5)  # an entry in the graph comes a little before the connection


def activate(node: LifecycleNode) -> None:
    node.trigger_configure()
    node.trigger_activate()


def test_an_output_without_a_subscriber_is_not_even_converted(student, config):
    node = student()
    publishers = Publishers(node, config, print)
    activate(node)
    nothing_to_convert = None
    publishers.publish(nothing_to_convert, Header(), DEFAULT_OUTPUTS)
    publishers.publish_times(Latency(1.0, 2.0, 3.0, 4.0), 5.0, Time())


def test_only_outputs_that_are_named_are_published_and_names_may_change_between_frames(side, student, config):
    node, listener = student(), side(rclpy.create_node, "listener")
    publishers = Publishers(node, config, print)
    activate(node)
    got: list[int] = []
    listener.node.create_subscription(
        Detection3DArray, "student_node/detections", lambda message: got.append(message.header.stamp.sec), 10
    )
    wait_until_they_meet(listener, node, "/student_node/detections")
    for second, names in enumerate((["detections"], ["markers", "map"], ["detections", "map"])):
        publishers.publish(prediction(), Header(stamp=Time(sec=second)), names)
    wait_for(lambda: len(got) >= 2, listener)
    assert got == [0, 2]


def test_what_labels_mean_is_there_for_who_comes_late(side, student, config):
    publishers = Publishers(student(), config, print)
    listener = side(rclpy.create_node, "listener")
    got: list[LabelInfo] = []
    listener.node.create_subscription(
        LabelInfo,
        "student_node/label_info",
        got.append,
        QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
    )
    wait_for(lambda: got, listener)
    assert got[0].threshold == 0.5
    assert {c.class_id: c.class_name for c in got[0].class_map} == dict(enumerate(["background", *MAP_CLASSES]))
    publishers.destroy()


def test_the_reliability_of_one_topic_is_a_parameter(student, config):
    node = student("-p", "qos_overrides./student_node/markers.publisher.reliability:=best_effort")
    Publishers(node, config, print)
    reliability = {
        topic: node.get_publishers_info_by_topic(f"/student_node/{topic}")[0].qos_profile.reliability
        for topic in ("markers", "detections")
    }
    assert reliability == {"markers": ReliabilityPolicy.BEST_EFFORT, "detections": ReliabilityPolicy.RELIABLE}


def test_publishers_can_be_made_again_after_they_were_destroyed(student, config):
    node = student()
    Publishers(node, config, print).destroy()
    assert not [
        topic
        for topic, _ in node.get_publisher_names_and_types_by_node("student_node", "/")
        if topic.startswith("/student_node/") and "transition" not in topic
    ]
    Publishers(node, config, print)
    assert len(node.get_publishers_info_by_topic("/student_node/detections")) == 1


def test_a_reliability_that_does_not_exist_is_refused_by_its_name(student, config):
    node = student("-p", "qos_overrides./student_node/detections.publisher.reliability:=perhaps")
    with pytest.raises(UserError, match=r"qos_overrides.*`perhaps`.*reliable or best_effort"):
        Publishers(node, config, print)


def test_an_output_that_does_not_exist_is_refused_by_its_name():
    with pytest.raises(UserError, match="parameter outputs: there is no mapimage; choose from detections, "):
        check_outputs(["detections", "mapimage"])


@pytest.mark.skipif(AUTOWARE, reason="autoware_perception_msgs is installed")
def test_objects_for_autoware_are_refused_where_its_messages_are_missing():
    with pytest.raises(UserError, match="detected_objects needs the ROS package autoware_perception_msgs"):
        check_outputs(["detected_objects"])


def test_autowares_times_are_those_of_the_frame(side, student):
    node, listener = student(), side(rclpy.create_node, "listener")
    clock = ManualClock()
    times = DebugTimes(node, clock)
    activate(node)
    stages = {"preprocess": 2, "inference": 4, "postprocess": 8, "total": 14}
    topics = [
        f"/student_node/debug/{name}_ms"
        for name in ("cyclic_time", "pipeline_latency", *(f"processing_time/{stage}" for stage in stages))
    ]
    stamped = find_spec("autoware_internal_debug_msgs")
    kind = import_module("autoware_internal_debug_msgs.msg").Float64Stamped if stamped else Float64
    got: dict[str, list[float]] = {}
    for topic in topics:
        listener.node.create_subscription(
            kind, topic, lambda message, topic=topic: got.setdefault(topic, []).append(message.data), 10
        )
    wait_until_they_meet(listener, node, *topics)
    for _ in range(2):
        times.publish(Latency(wait=1.0, convert=2.0, infer=4.0, publish=8.0), 16.0, Time(sec=3))
        clock.advance(0.05)
    wait_for(lambda: sum(map(len, got.values())) >= 11, listener)
    (cyclic,) = got.pop("/student_node/debug/cyclic_time_ms")
    assert cyclic == pytest.approx(50)
    assert got == {
        "/student_node/debug/pipeline_latency_ms": [16.0, 16.0],
        **{f"/student_node/debug/processing_time/{stage}_ms": [ms, ms] for stage, ms in stages.items()},
    }


def test_every_class_has_a_word_in_autoware():
    assert LABELS.keys() == set(DETECTION_CLASSES)


@needs_autoware
def test_an_object_for_autoware_moves_along_its_own_heading():
    msg = import_module("autoware_perception_msgs.msg")
    car = (10, 1, 0.5, 4, 2, 1.5, math.pi / 2, 0, 3)  # looks to the left and drives that way
    barrier = (5, 0, 0.5, 0.5, 2, 1, 0, math.nan, math.nan)
    message = detected_objects_message(
        prediction((car, barrier), (0, DETECTION_CLASSES.index("barrier"))), Header(frame_id="base_link")
    )
    assert message.header.frame_id == "base_link"
    first, second = message.objects
    assert first.existence_probability == 0.5
    assert [(c.label, c.probability) for c in first.classification] == [(msg.ObjectClassification.CAR, 1.0)]
    assert first.shape.type == msg.Shape.BOUNDING_BOX
    assert (first.shape.dimensions.x, first.shape.dimensions.y, first.shape.dimensions.z) == (4, 2, 1.5)
    twist = first.kinematics.twist_with_covariance.twist.linear
    assert (twist.x, twist.y) == pytest.approx((3, 0), abs=1e-5)
    assert first.kinematics.has_twist and not second.kinematics.has_twist
    assert first.kinematics.orientation_availability == msg.DetectedObjectKinematics.AVAILABLE
    assert second.kinematics.orientation_availability == msg.DetectedObjectKinematics.SIGN_UNKNOWN
    assert second.classification[0].label == msg.ObjectClassification.UNKNOWN


@needs_autoware
def test_an_object_for_autoware_says_how_far_it_may_be_off():
    known = replace(prediction(), deviations=np.float32([[0.4, 0.2, 0.1, 0.05, 1.5, 0.5]]))
    (only,), (unknown,) = (detected_objects_message(one, Header()).objects for one in (known, prediction()))
    assert only.kinematics.has_position_covariance and only.kinematics.has_twist_covariance
    assert not unknown.kinematics.has_position_covariance and not unknown.kinematics.has_twist_covariance
    assert only.kinematics.twist_with_covariance.covariance[[0, 7]].tolist() == [2.25, 0.25]
    assert only.kinematics.pose_with_covariance.covariance[35] == pytest.approx(0.0025)


@needs_autoware
def test_objects_for_autoware_come_where_the_parameter_asks_for_them(side, student, config):
    kind = import_module("autoware_perception_msgs.msg").DetectedObjects
    node, listener = student(), side(rclpy.create_node, "listener")
    publishers = Publishers(node, config, print)
    activate(node)
    got: list = []
    listener.node.create_subscription(kind, "student_node/detected_objects", got.append, 10)
    wait_until_they_meet(listener, node, "/student_node/detected_objects")
    publishers.publish(prediction(), Header(stamp=Time(sec=1)), DEFAULT_OUTPUTS)
    publishers.publish(prediction(), Header(stamp=Time(sec=2)), ["detected_objects"])
    wait_for(lambda: got, listener)
    assert [message.header.stamp.sec for message in got] == [2]

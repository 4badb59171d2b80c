"""A real comparison_node process over real DDS: a student's detections beside what is true."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
import yaml
from builtin_interfaces.msg import Time
from std_msgs.msg import Header
from support.other_node import TIMEOUT_S, OtherNode
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction
from vexkd_ros.comparison_node import ComparisonNode
from vexkd_ros.inputs.stamp_pairs import StampPairs
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.share import REPOSITORY

CAR, PEDESTRIAN = DETECTION_CLASSES.index("car"), DETECTION_CLASSES.index("pedestrian")


def message(second: float, *objects: tuple[int, float, float, float]) -> Detection3DArray:
    """(class, x, y, score) each, at a time."""
    values = np.array([[x, y, 0.5, 4, 2, 1.5, 0, 0, 0] for _, x, y, _ in objects], np.float32).reshape(-1, 9)
    prediction = Prediction(
        Boxes(values, np.array([label for label, *_ in objects], int)),
        np.array([score for *_, score in objects], np.float32),
        None,
        None,
        0,
    )
    stamp = Time(sec=int(second), nanosec=round(second % 1 * 1e9))
    return detections_message(prediction, Header(stamp=stamp, frame_id="base_link"))


class Surroundings(OtherNode):
    """Publishes both inputs of the node and collects its markers by their second."""

    def __init__(self) -> None:
        super().__init__()
        self.truth = self.node.create_publisher(Detection3DArray, "ground_truth", 10)
        self.found = self.node.create_publisher(Detection3DArray, "detections", 10)
        self.markers: dict[float, list[Marker]] = {}
        self.subscription = self.node.create_subscription(MarkerArray, "comparison_node/markers", self._keep, 10)

    def _keep(self, array: MarkerArray) -> None:
        stamp = array.markers[0].header.stamp
        self.markers[stamp.sec + stamp.nanosec * 1e-9] = array.markers

    def compared(self, second: float) -> list[Marker]:
        self.wait_for(lambda: second in self.markers)
        return self.markers[second]


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vexkd_ros.comparison_node",
            "--ros-args",
            "-p",
            "stamp_tolerance:=0.1",
            "-p",
            "score_threshold:=0.3",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def around(process: subprocess.Popen) -> Iterator[Surroundings]:
    around = Surroundings()
    around.wait_for(
        lambda: (
            around.truth.get_subscription_count()
            and around.found.get_subscription_count()
            and around.node.count_publishers("comparison_node/markers")
        )
    )

    def is_answered() -> bool:  # the node's side of the discovery may still be on its way
        around.truth.publish(message(1))
        around.found.publish(message(1))
        return 1 in around.markers

    around.wait_for(is_answered)
    yield around
    around.close()


def by_namespace(markers: list[Marker], kind: int) -> dict[str, list[Marker]]:
    found = {}
    for marker in markers:
        if marker.type == kind and marker.action == Marker.ADD:
            found.setdefault(marker.ns, []).append(marker)
    return found


def test_a_hit_a_false_alarm_and_a_miss_stand_side_by_side(around):
    around.truth.publish(message(10, (CAR, 20, 0, 1), (PEDESTRIAN, 8, -3, 1)))
    around.found.publish(message(10, (CAR, 20.5, 0, 0.9), (CAR, 5, 5, 0.6), (PEDESTRIAN, 8, -3, 0.1)))
    markers = around.compared(10)
    assert markers[0].action == Marker.DELETEALL
    cubes = by_namespace(markers, Marker.CUBE)
    assert {name: [(m.pose.position.x, m.pose.position.y) for m in found] for name, found in cubes.items()} == {
        "hits": [(20.5, 0)],
        "false_alarms": [(5, 5)],
        "misses": [(8, -3)],
    }
    assert len({(m.color.r, m.color.g, m.color.b) for found in cubes.values() for m in found}) == 3
    texts = {name: [m.text for m in found] for name, found in by_namespace(markers, Marker.TEXT_VIEW_FACING).items()}
    assert texts == {
        "hits": ["car 0.90, 0.5 m off"],
        "false_alarms": ["no car 0.60"],
        "misses": ["missed pedestrian"],
        "summary": ["1 hits, 1 false alarms, 1 misses"],
    }
    assert len({(m.ns, m.id) for m in markers[1:]}) == len(markers) - 1


def test_beyond_the_range_of_the_metrics_nothing_counts(around):
    around.truth.publish(message(20, (CAR, 49, 0, 1), (PEDESTRIAN, 41, 0, 1), (CAR, 51, 0, 1)))
    around.found.publish(message(20, (PEDESTRIAN, 45, 3, 0.9)))
    texts = by_namespace(around.compared(20), Marker.TEXT_VIEW_FACING)
    assert [m.text for m in texts["summary"]] == ["0 hits, 0 false alarms, 1 misses"]


def test_detections_are_joined_to_the_truth_whichever_comes_first(around):
    around.found.publish(message(30, (CAR, 9, 0, 0.9)))
    around.truth.publish(message(30, (CAR, 9, 0, 1)))
    assert by_namespace(around.compared(30), Marker.CUBE).keys() == {"hits"}


def test_stamps_within_the_tolerance_are_a_pair_and_others_are_none(around):
    around.truth.publish(message(40, (CAR, 9, 0, 1)))
    around.found.publish(message(40.5, (CAR, 9, 0, 0.9)))
    around.found.publish(message(40.0625, (CAR, 9, 0, 0.9)))
    assert by_namespace(around.compared(40.0625), Marker.CUBE).keys() == {"hits"}
    assert 40.5 not in around.markers


def test_a_bag_that_loops_is_compared_anew(around):
    around.markers.clear()
    around.truth.publish(message(10, (CAR, 20, 0, 1)))
    around.found.publish(message(10))
    assert by_namespace(around.compared(10), Marker.CUBE).keys() == {"misses"}


def test_ctrl_c_ends_it_well(process, around):
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 0


def test_wrong_use_is_said_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "vexkd_ros.comparison_node", "--ros-args", "-p", "distance:=2"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "distance" in done.stderr


def test_the_parameter_file_names_every_parameter_with_its_default():
    written = yaml.safe_load((REPOSITORY / "config/node/comparison_node.yaml").read_text())["/**"]["ros__parameters"]
    rclpy.init()
    node = ComparisonNode()
    declared = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    node.destroy_node()
    rclpy.shutdown()
    assert written.items() <= declared.items()
    assert declared.keys() - written.keys() <= {"use_sim_time", "start_type_description_service"}


def test_the_nearer_of_two_in_time_is_the_pair():
    pairs = StampPairs[str](tolerance_ns=100)
    assert pairs.add_other(60, "late") == []
    assert pairs.add_reference(0, "truth") == [("truth", "late")]
    assert pairs.add_other(-30, "early") == [("truth", "early")]
    assert pairs.add_other(40, "later") == []

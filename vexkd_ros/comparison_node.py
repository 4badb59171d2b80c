"""Markers of a student's hits, false alarms and misses, wherever a bag or a simulation publishes the truth.

Matches as the nuScenes detection metrics do: best score first, each detection takes the nearest free annotation of its
class whose centre is less than `distance` away, within the range at which the metrics look at that class.
"""

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vexkd_model.evaluation.matching import MATCH_DISTANCE_M, match_by_centre, within_range
from vexkd_model.types import DETECTION_CLASSES, Boxes
from vexkd_ros.inputs.detections import read_detections
from vexkd_ros.inputs.reception import stamp_ns, subscribe
from vexkd_ros.inputs.stamp_pairs import StampPairs
from vexkd_ros.node_process import run_simple_node
from vexkd_ros.outputs.comparison_markers import comparison_markers

EXAMPLE = """\
example:
  vexkd-comparison-node --ros-args -r detections:=/student_node/detections -p distance:=1.0"""


class ComparisonNode(Node):
    """Node that joins `detections` to `ground_truth` by stamp and publishes ~/markers for each pair."""

    def __init__(self) -> None:
        super().__init__("comparison_node")
        self._declare(
            "score_threshold",
            0.0,
            (0.0, 1.0),
            "Detections that score less are not shown and hit nothing; 0.0 takes all. May change at any time.",
        )
        self._declare(
            "distance",
            MATCH_DISTANCE_M,
            (0.01, 10.0),
            "Centres of a hit are less than this apart [m]. May change at any time.",
        )
        self._declare(
            "stamp_tolerance",
            0.0,
            (0.0, 1.0),
            "Stamps of a pair are at most this apart [s]: 0 for LiDAR "
            "students; camera students bear the mean stamp of their images. Read at start.",
        )
        self._pairs: StampPairs[Detection3DArray] = StampPairs(round(self.get_parameter("stamp_tolerance").value * 1e9))
        self._unknown: set[str] = set()
        self._markers = self.create_publisher(MarkerArray, "~/markers", 10)
        # Best effort meets publishers of either reliability.
        quality = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        for topic, add in (("ground_truth", self._pairs.add_reference), ("detections", self._pairs.add_other)):
            subscription = subscribe(self, Detection3DArray, topic, partial(self._receive, add), self._refuse, quality)
            self.get_logger().info(f"compares {subscription.topic_name}")

    def _declare(self, name: str, default: float, limits: tuple[float, float], description: str) -> None:
        self.declare_parameter(
            name,
            default,
            ParameterDescriptor(
                description=description,
                floating_point_range=[FloatingPointRange(from_value=limits[0], to_value=limits[1])],
            ),
        )

    def _receive(self, add: Callable, message: Detection3DArray) -> None:
        for truth, found in add(stamp_ns(message.header.stamp), message):
            self._compare(truth, found)

    def _refuse(self, kind: str, text: str) -> None:
        self.get_logger().error(f"input dropped: {text}", throttle_duration_sec=5.0)

    def _compare(self, truth_message: Detection3DArray, found_message: Detection3DArray) -> None:
        if not self._markers.get_subscription_count():
            return
        truth, _ = self._read(truth_message)
        found, scores = self._read(found_message)
        kept = scores >= self.get_parameter("score_threshold").value
        found, scores = Boxes(found.values[kept], found.labels[kept]), scores[kept]
        matches = match_by_centre(found, scores, truth, self.get_parameter("distance").value)
        self._markers.publish(comparison_markers(found, scores, truth, matches, found_message.header))

    def _read(self, message: Detection3DArray) -> tuple[Boxes, np.ndarray]:
        """Return the boxes within their class's range, and their scores."""
        boxes, scores, unknown = read_detections(message)
        for name in set(unknown) - self._unknown:
            self._unknown.add(name)
            self.get_logger().warning(f"class '{name}' is left out; it is none of {', '.join(DETECTION_CLASSES)}")
        near = within_range(boxes)
        return Boxes(boxes.values[near], boxes.labels[near]), scores[near]


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM and return the exit code; SystemExit where it cannot start."""
    return run_simple_node(ComparisonNode, "vexkd-comparison-node", __doc__ or "", EXAMPLE, args)


if __name__ == "__main__":
    sys.exit(main())

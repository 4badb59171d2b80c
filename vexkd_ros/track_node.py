"""Tracks of a student's detections: numbers that stay with an object, its filtered pose and its velocity.

Every message of `detections` is answered at once, from what came before it: a Kalman filter an object, in a frame that
stays with the world. It needs that frame on TF, as the student does for its sweeps.
"""

import sys
from collections import deque
from functools import partial

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vexkd_model.tracking.online import LEAST_SIGHTINGS, TRAIL, OnlineTracker
from vexkd_ros.inputs.detections import read_detections
from vexkd_ros.inputs.errors import TransformUnavailable
from vexkd_ros.inputs.reception import stamp_ns, subscribe
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.node_process import run_simple_node
from vexkd_ros.outputs.tracks import track_markers, tracks_message

TF_DEPTH = 100
WAITING = 10  # messages that wait for their transform: /tf and detections come on ways of their own
EXAMPLE = """\
example:
  vexkd-track-node --ros-args -r detections:=/student_node/detections -p score_threshold:=0.2"""


class TrackNode(Node):
    """Node that tracks `detections` in `fixed_frame` and publishes ~/tracks and ~/markers in the detections' frame."""

    def __init__(self) -> None:
        super().__init__("track_node")
        self.declare_parameter(
            "fixed_frame",
            "odom",
            ParameterDescriptor(description="Frame of the world in which objects are followed. Read at start."),
        )
        self.declare_parameter(
            "score_threshold",
            0.0,
            ParameterDescriptor(
                description="Detections that score less are not looked at. May change at any time.",
                floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)],
            ),
        )
        self.declare_parameter(
            "least_sightings",
            LEAST_SIGHTINGS,
            ParameterDescriptor(
                description="A track is published once its object was detected so often. May change at any time.",
                integer_range=[IntegerRange(from_value=1, to_value=TRAIL)],
            ),
        )
        self._fixed_frame: str = self.get_parameter("fixed_frame").value
        self._transforms, self._tracker = TransformBuffer(), OnlineTracker()
        self._waiting: deque[Detection3DArray] = deque()
        self._tracks = self.create_publisher(Detection3DArray, "~/tracks", 10)
        self._markers = self.create_publisher(MarkerArray, "~/markers", 10)
        latched = QoSProfile(depth=TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic, static, quality in (("/tf", False, QoSProfile(depth=TF_DEPTH)), ("/tf_static", True, latched)):
            subscribe(self, TFMessage, topic, partial(self._on_transforms, static), self._refuse, quality)
        # Best effort meets publishers of either reliability.
        quality = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        subscription = subscribe(self, Detection3DArray, "detections", self._track, self._refuse, quality)
        self.get_logger().info(f"follows {subscription.topic_name} in {self._fixed_frame}")

    def _on_transforms(self, static: bool, message: TFMessage) -> None:
        for problem in self._transforms.insert_message(message, static):
            self._refuse(problem, problem)
        self._answer_waiting()

    def _refuse(self, kind: str, text: str) -> None:
        self.get_logger().error(f"input dropped: {text}", throttle_duration_sec=5.0)

    def _track(self, message: Detection3DArray) -> None:
        self._waiting.append(message)
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        """Answer, oldest first, all messages up to the first whose transform is still on its way."""
        while self._waiting:
            message = self._waiting[0]
            try:
                fixed_from_frame = self._transforms.lookup(
                    self._fixed_frame, message.header.frame_id, stamp_ns(message.header.stamp)
                )
            except TransformUnavailable as error:
                if error.coming and len(self._waiting) <= WAITING:
                    return
                self._waiting.popleft()
                self._refuse(error.kind, str(error))
            else:
                self._answer(self._waiting.popleft(), fixed_from_frame)

    def _answer(self, message: Detection3DArray, fixed_from_frame: np.ndarray) -> None:
        stamp = stamp_ns(message.header.stamp)
        boxes, scores, _ = read_detections(message)
        threshold, least = (self.get_parameter(name).value for name in ("score_threshold", "least_sightings"))
        objects = self._tracker.step(stamp, boxes, scores, fixed_from_frame, threshold, least)
        self._tracks.publish(tracks_message(objects, message.header))
        if self._markers.get_subscription_count():
            self._markers.publish(track_markers(objects, message.header))


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM and return the exit code; SystemExit where it cannot start."""
    return run_simple_node(TrackNode, "vexkd-track-node", __doc__ or "", EXAMPLE, args)


if __name__ == "__main__":
    sys.exit(main())

"""Tracks of a student's detections: numbers that stay with an object, its filtered pose and its velocity.

Every message of `detections` is answered at once, from what came before it: a Kalman filter an object, in a frame that
stays with the world. It needs that frame on TF, as the student does for its sweeps.

The student publishes the velocities that it measures as ~/velocities, beside ~/detections, and the filter takes them.
Detections wait for those of their stamp, 0.05 s at most and only while such messages come; without any, velocities are
found from positions alone. The log says which.
"""

import sys
import time
from collections import deque
from functools import partial

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vexkd_model.tracking.online import LEAST_SIGHTINGS, TRAIL, OnlineTracker
from vexkd_ros.inputs.detections import read_detections
from vexkd_ros.inputs.errors import TransformUnavailable
from vexkd_ros.inputs.measured_velocities import WAIT_S, MeasuredVelocities
from vexkd_ros.inputs.pointcloud import read_fields
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
        self._waiting: deque[tuple[Detection3DArray, float]] = deque()  # with the time of its reception [s]
        self._tracks = self.create_publisher(Detection3DArray, "~/tracks", 10)
        self._markers = self.create_publisher(MarkerArray, "~/markers", 10)
        latched = QoSProfile(depth=TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic, static, quality in (("/tf", False, QoSProfile(depth=TF_DEPTH)), ("/tf_static", True, latched)):
            subscribe(self, TFMessage, topic, partial(self._on_transforms, static), self._refuse, quality)
        # Best effort meets publishers of either reliability.
        quality = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        subscription = subscribe(self, Detection3DArray, "detections", self._track, self._refuse, quality)
        beside = subscription.topic_name.rpartition("/")[0] + "/velocities"
        velocities = subscribe(self, PointCloud2, beside, self._on_velocities, self._refuse, quality)
        self._velocities = MeasuredVelocities(velocities.topic_name, self.get_logger().info)
        self._alarm = self.create_timer(WAIT_S, self._on_alarm, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._alarm.cancel()
        self.get_logger().info(f"follows {subscription.topic_name} in {self._fixed_frame}")

    def _on_transforms(self, static: bool, message: TFMessage) -> None:
        for problem in self._transforms.insert_message(message, static):
            self._refuse(problem, problem)
        self._answer_waiting()

    def _refuse(self, kind: str, text: str) -> None:
        self.get_logger().error(f"input dropped: {text}", throttle_duration_sec=5.0)

    def _on_velocities(self, message: PointCloud2) -> None:
        self._velocities.add(stamp_ns(message.header.stamp), read_fields(message, ("vx", "vy")))
        self._answer_waiting()

    def _on_alarm(self) -> None:
        self._alarm.cancel()
        self._answer_waiting()

    def _track(self, message: Detection3DArray) -> None:
        stamp_ns(message.header.stamp)  # refused here, where it cannot keep others waiting
        self._waiting.append((message, time.monotonic()))
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        """Answer, oldest first, all messages up to the first that lacks a transform or velocities on their way."""
        while self._waiting:
            message, received_s = self._waiting[0]
            stamp = stamp_ns(message.header.stamp)
            try:
                fixed_from_frame = self._transforms.lookup(self._fixed_frame, message.header.frame_id, stamp)
            except TransformUnavailable as error:
                if error.coming and len(self._waiting) <= WAITING:
                    return
                self._waiting.popleft()
                self._refuse(error.kind, str(error))
                continue
            if wait_s := self._velocities.wait_s(stamp, received_s):
                self._alarm.timer_period_ns = round(wait_s * 1e9)
                self._alarm.reset()
                return
            self._waiting.popleft()
            self._answer(message, stamp, fixed_from_frame)

    def _answer(self, message: Detection3DArray, stamp: int, fixed_from_frame: np.ndarray) -> None:
        velocities = self._velocities.take(stamp, len(message.detections))
        boxes, scores, _ = read_detections(message, velocities)
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

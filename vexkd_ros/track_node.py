"""Tracks of a student's detections: numbers that stay with an object, its filtered pose and its velocity.

Every message of `detections` is answered at once, from what came before it: a Kalman filter an object, in a frame that
stays with the world. It needs that frame on TF, as the student does for its sweeps.
"""

import sys
from functools import partial

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vexkd_model.geometry.boxes import transform_boxes
from vexkd_model.geometry.transforms import inverse
from vexkd_model.tracking.doubles import single_detections
from vexkd_model.tracking.tracker import Tracker
from vexkd_ros.inputs.detections import read_detections
from vexkd_ros.inputs.errors import TransformUnavailable
from vexkd_ros.inputs.reception import stamp_ns, subscribe
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.node_process import run_simple_node
from vexkd_ros.outputs.tracks import TRAIL, track_markers, tracked_objects, tracks_message

TF_DEPTH = 100
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
            2,
            ParameterDescriptor(
                description="A track is published once its object was detected so often. May change at any time.",
                integer_range=[IntegerRange(from_value=1, to_value=TRAIL)],
            ),
        )
        self._fixed_frame: str = self.get_parameter("fixed_frame").value
        self._transforms, self._tracker, self._newest_ns = TransformBuffer(), Tracker(), -1
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

    def _refuse(self, kind: str, text: str) -> None:
        self.get_logger().error(f"input dropped: {text}", throttle_duration_sec=5.0)

    def _track(self, message: Detection3DArray) -> None:
        stamp = stamp_ns(message.header.stamp)
        try:
            fixed_from_frame = self._transforms.lookup(self._fixed_frame, message.header.frame_id, stamp)
        except TransformUnavailable as error:
            self._refuse(error.kind, str(error))
            return
        if stamp <= self._newest_ns:  # a bag that loops, or the same moment twice: what was followed is of another time
            self._tracker.clear()
        self._newest_ns = stamp
        boxes, scores, _ = read_detections(message)
        kept = np.flatnonzero(scores >= self.get_parameter("score_threshold").value)
        kept = kept[single_detections(boxes.values[kept], boxes.labels[kept], scores[kept])]
        in_world = transform_boxes(fixed_from_frame, boxes.values[kept])
        tracks = self._tracker.step(stamp, in_world, boxes.labels[kept], scores[kept])
        self._tracker.ended.clear()
        for track in tracks:  # a node lives for days
            del track.sightings[:-TRAIL]
        least = self.get_parameter("least_sightings").value
        shown = [track for track in tracks if len(track.sightings) >= least]
        objects = tracked_objects(shown, inverse(fixed_from_frame))
        self._tracks.publish(tracks_message(objects, message.header))
        if self._markers.get_subscription_count():
            self._markers.publish(track_markers(objects, message.header))


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM and return the exit code; SystemExit where it cannot start."""
    return run_simple_node(TrackNode, "vexkd-track-node", __doc__ or "", EXAMPLE, args)


if __name__ == "__main__":
    sys.exit(main())

"""Publishers of all that the node says about a frame; a topic that nobody listens to costs nothing."""

import re
from collections.abc import Callable, Collection
from functools import partial

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from vexkd_model.config import ModelConfig
from vexkd_model.errors import UserError
from vexkd_model.types import MAP_CLASSES, Prediction
from vexkd_ros.health.endpoints import no_publisher_events, publisher_events
from vexkd_ros.health.latency import Latency
from vexkd_ros.outputs.cdr import agrees, detections_cdr, markers_cdr
from vexkd_ros.outputs.debug_times import DebugTimes
from vexkd_ros.outputs.detected_objects import detected_objects_message, detected_objects_type
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.outputs.map_grids import grid_message, image_message, label_info_message, labels_message
from vexkd_ros.outputs.markers import markers_message
from vexkd_ros.outputs.velocities import velocities_message
from vexkd_ros.student_parameters import DEFAULT_OUTPUTS, OUTPUTS

DEPTH = 10  # reliable, keep last: a recorder that stalls for a few frames loses none

Convert = Callable[[Prediction, Header], object]  # a message, or its bytes


def check_outputs(names: Collection[str]) -> None:
    """Raise UserError where the parameter `outputs` names something that cannot be published here."""
    unknown = sorted(set(names) - set(OUTPUTS))
    if unknown:
        raise UserError(f"parameter outputs: there is no {unknown[0]}; choose from {', '.join(OUTPUTS)}")
    if "detected_objects" in names and detected_objects_type() is None:
        raise UserError(
            "parameter outputs: detected_objects needs the ROS package autoware_perception_msgs; "
            "install it, or leave detected_objects out"
        )


class Publishers:
    """Lifecycle publishers of the node: silent until the node is active. A student's missing head has no topics.

    Their reliability is a parameter each, ROS's own: qos_overrides.TOPIC.publisher.reliability, with the topic's full
    name. A value that cannot be is a UserError. A subscriber that cannot hear an output is told to `report`.
    """

    def __init__(self, node: LifecycleNode, config: ModelConfig, report: Callable[[str], None]) -> None:
        self._node, self._report = node, report
        # In the order of publication: somebody may be waiting for the detections to brake.
        self._outputs: list[tuple[str, LifecyclePublisher, Convert]] = []
        self._label_info: Publisher | None = None
        self._latency: LifecyclePublisher | None = None
        self._times: DebugTimes | None = None
        try:
            if config.detection is not None:
                self._add_detections()
            if config.segmentation is not None:
                self._add_maps()
            self._latency = node.create_lifecycle_publisher(
                DiagnosticArray, "~/debug/latency", DEPTH, event_callbacks=no_publisher_events()
            )
            self._times = DebugTimes(node)
        except (RuntimeError, ParameterException) as error:
            self.destroy()
            raise UserError(f"parameter qos_overrides: {error}; a reliability is reliable or best_effort") from None

    def _add_detections(self) -> None:
        self._add("detections", Detection3DArray, "~/detections", _fastest(detections_cdr, detections_message))
        self._add("detections", PointCloud2, "~/velocities", velocities_message)
        objects = detected_objects_type()
        if objects is not None:
            self._add("detected_objects", objects, "~/detected_objects", detected_objects_message)
        self._add("markers", MarkerArray, "~/markers", _fastest(markers_cdr, markers_message))

    def _add_maps(self) -> None:
        for map_class, name in enumerate(MAP_CLASSES):
            self._add("map", OccupancyGrid, f"~/map/{name}", partial(grid_message, map_class=map_class))
        self._add("map_image", Image, "~/map_image", image_message)
        self._add("map_labels", Image, "~/map_labels", labels_message)
        # No lifecycle publisher: what the labels mean does not depend on whether the node is active.
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._label_info = self._node.create_publisher(
            LabelInfo, "~/label_info", latched, event_callbacks=no_publisher_events()
        )
        self._label_info.publish(label_info_message(Header(stamp=self._node.get_clock().now().to_msg())))

    def _add(self, name: str, kind: type, topic: str, message: Convert) -> None:
        publisher = self._node.create_lifecycle_publisher(
            kind,
            topic,
            QoSProfile(depth=DEPTH),
            qos_overriding_options=QoSOverridingOptions((QoSPolicyKind.RELIABILITY,)),
            event_callbacks=publisher_events(topic, self._report),
        )
        self._outputs.append((name, publisher, message))

    def wanted(self, names: Collection[str]) -> bool:
        """Return whether somebody subscribes to an output of these names, or to a frame's times."""
        publishers = [publisher for name, publisher, _ in self._outputs if name in names]
        return (
            any(publisher.get_subscription_count() for publisher in publishers)
            or bool(self._latency and self._latency.get_subscription_count())
            or bool(self._times and self._times.wanted())
        )

    def topics(self, names: Collection[str]) -> list[str]:
        """List the topics of the outputs of these names, one line a kind of map."""
        topics = [publisher.topic_name for name, publisher, _ in self._outputs if name in names]
        return list(dict.fromkeys(re.sub(r"/map/\w+$", "/map/CLASS", topic) for topic in topics))

    def publish(self, prediction: Prediction, header: Header, names: Collection[str] = DEFAULT_OUTPUTS) -> None:
        """Convert and publish the outputs of these names, of OUTPUTS, that somebody subscribes to."""
        for name, publisher, message in self._outputs:
            if name in names and publisher.get_subscription_count():
                publisher.publish(message(prediction, header))

    def publish_latency(self, message: DiagnosticArray) -> None:
        """Publish a frame's latency by stage."""
        if self._latency and self._latency.get_subscription_count():
            self._latency.publish(message)

    def publish_times(self, latency: Latency, age_ms: float, stamp: Time) -> None:
        """Publish the times as Autoware's tools read them. age_ms: node clock now − input stamp; stamp: the input's."""
        if self._times:
            self._times.publish(latency, age_ms, stamp)

    def destroy(self) -> None:
        """Destroy all publishers."""
        for _, publisher, _ in self._outputs:
            self._node.destroy_lifecycle_publisher(publisher)
        if self._latency:
            self._node.destroy_lifecycle_publisher(self._latency)
        if self._times:
            self._times.destroy()
        if self._label_info:
            self._node.destroy_publisher(self._label_info)


def _fastest(serialise: Callable[[Prediction, Header], bytes], message: Convert) -> Convert:
    """Choose the conversion straight to bytes, unless this distribution's message has other fields."""
    return serialise if agrees(serialise, message) else message

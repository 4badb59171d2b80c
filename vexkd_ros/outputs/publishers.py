"""All that the node says about a frame, on its topics; a topic that nobody listens to costs nothing."""

from collections.abc import Callable
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vexkd_model.config import ModelConfig
from vexkd_model.types import MAP_CLASSES, Prediction
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.outputs.map_grids import grid_message, image_message
from vexkd_ros.outputs.markers import markers_message

DEPTH = 10  # reliable, keep last: a recorder that stalls for a few frames loses none


class Publishers:
    """The node's lifecycle publishers: silent until the node is active. A student's missing head has no topics."""

    def __init__(self, node: LifecycleNode, config: ModelConfig) -> None:
        self._node = node
        # In the order of publication: somebody may be waiting for the detections to brake.
        self._outputs: list[tuple[Publisher, Callable[[Prediction, Header], object]]] = []
        if config.detection is not None:
            self._add(Detection3DArray, "~/detections", detections_message)
            self._add(MarkerArray, "~/markers", markers_message)
        if config.segmentation is not None:
            for map_class, name in enumerate(MAP_CLASSES):
                self._add(OccupancyGrid, f"~/map/{name}", partial(grid_message, map_class=map_class))
            self._add(Image, "~/map_image", image_message)
        self._latency = node.create_lifecycle_publisher(DiagnosticArray, "~/debug/latency", DEPTH)

    def _add(self, kind: type, topic: str, message: Callable[[Prediction, Header], object]) -> None:
        self._outputs.append((self._node.create_lifecycle_publisher(kind, topic, DEPTH), message))

    def publish(self, prediction: Prediction, header: Header) -> None:
        for publisher, message in self._outputs:
            if publisher.get_subscription_count():
                publisher.publish(message(prediction, header))

    def publish_latency(self, message: DiagnosticArray) -> None:
        if self._latency.get_subscription_count():
            self._latency.publish(message)

    def destroy(self) -> None:
        for publisher in (*(publisher for publisher, _ in self._outputs), self._latency):
            self._node.destroy_lifecycle_publisher(publisher)

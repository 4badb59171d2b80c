"""All that the node says about a frame, on its topics; a topic that nobody listens to costs nothing."""

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vexkd_model.types import MAP_CLASSES, Prediction
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.outputs.map_grids import grid_message, image_message
from vexkd_ros.outputs.markers import markers_message

DEPTH = 10  # reliable, keep last: a recorder that stalls for a few frames loses none


class Publishers:
    """The node's lifecycle publishers: silent until the node is active."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._detections = node.create_lifecycle_publisher(Detection3DArray, "~/detections", DEPTH)
        self._markers = node.create_lifecycle_publisher(MarkerArray, "~/markers", DEPTH)
        self._grids = [node.create_lifecycle_publisher(OccupancyGrid, f"~/map/{name}", DEPTH) for name in MAP_CLASSES]
        self._image = node.create_lifecycle_publisher(Image, "~/map_image", DEPTH)
        self._latency = node.create_lifecycle_publisher(DiagnosticArray, "~/debug/latency", DEPTH)

    def publish(self, prediction: Prediction, header: Header) -> None:
        """Detections first: somebody may be waiting for them to brake."""
        if self._detections.get_subscription_count():
            self._detections.publish(detections_message(prediction, header))
        if self._markers.get_subscription_count():
            self._markers.publish(markers_message(prediction, header))
        for map_class, publisher in enumerate(self._grids):
            if publisher.get_subscription_count():
                publisher.publish(grid_message(prediction, map_class, header))
        if self._image.get_subscription_count():
            self._image.publish(image_message(prediction, header))

    def publish_latency(self, message: DiagnosticArray) -> None:
        if self._latency.get_subscription_count():
            self._latency.publish(message)

    def destroy(self) -> None:
        for publisher in (self._detections, self._markers, *self._grids, self._image, self._latency):
            self._node.destroy_lifecycle_publisher(publisher)

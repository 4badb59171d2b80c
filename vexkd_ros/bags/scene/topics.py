"""Topics of our bags: name, type and quality of service."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rosbags.interfaces import Qos

from vexkd_model.types import MAP_CLASSES
from vexkd_ros.bags.writing import LATCHED, STREAM, TRANSFORMS


@dataclass(frozen=True)
class Topic:
    """Topic of our bags."""

    name: str
    msgtype: str
    qos: Qos = STREAM


class Due(NamedTuple):
    """Message of a bag and when it is due: `make` reads its file and builds it only then."""

    stamp_ns: int
    topic: Topic
    make: Callable[[], object]


TF_STATIC = Topic("/tf_static", "tf2_msgs/msg/TFMessage", LATCHED)
TF = Topic("/tf", "tf2_msgs/msg/TFMessage", TRANSFORMS)
ODOMETRY = Topic("/odom", "nav_msgs/msg/Odometry")
GPS = Topic("/gps", "sensor_msgs/msg/NavSatFix")
IMU = Topic("/imu", "sensor_msgs/msg/Imu")
CAN_ODOMETRY = Topic("/can_bus/pose", "nav_msgs/msg/Odometry")
KEYFRAME = Topic("/keyframe", "std_msgs/msg/Header")
GROUND_TRUTH = Topic("/ground_truth", "vision_msgs/msg/Detection3DArray")
GROUND_TRUTH_MARKERS = Topic("/ground_truth/markers", "visualization_msgs/msg/MarkerArray")
GROUND_TRUTH_MAPS = tuple(Topic(f"/ground_truth/map/{name}", "nav_msgs/msg/OccupancyGrid") for name in MAP_CLASSES)
MAP_MARKERS = Topic("/map/markers", "visualization_msgs/msg/MarkerArray", LATCHED)
POINTS = Topic("/lidar/points", "sensor_msgs/msg/PointCloud2")


def image_topic(channel: str) -> Topic:
    """Return the image topic of a camera, CAM_FRONT."""
    return Topic(f"/{channel.lower()}/image/compressed", "sensor_msgs/msg/CompressedImage")


def camera_info_topic(channel: str) -> Topic:
    """Return the CameraInfo topic of a camera, CAM_FRONT."""
    return Topic(f"/{channel.lower()}/camera_info", "sensor_msgs/msg/CameraInfo")


def radar_topic(channel: str) -> Topic:
    """Return the topic of a radar, RADAR_FRONT."""
    return Topic(f"/{channel.lower()}/points", "sensor_msgs/msg/PointCloud2")


def can_topic(name: str) -> Topic:
    """Return the topic of a CAN bus message that has no ROS type of its own: its numbers by name."""
    return Topic(f"/can_bus/{name}", "diagnostic_msgs/msg/DiagnosticArray")

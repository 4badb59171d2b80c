"""Faults that vehicles, drivers and networks send, at the time of a bag that is played, for benchmarks/soak.py."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, PointCloud2, PointField
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vexkd_ros.bags.reading import header_stamp_ns

SECOND, HOUR = 10**9, 3600 * 10**9
MARK, BROKEN = b"XXX", b"\xff\xfe\xfd"  # a part of a name, and bytes that are no UTF-8 in its place
CAMERA = "/cam_front"
MENDED_S = 0.5  # from a static transform that is wrong to the right one

Fault = Callable[["Companion"], None]


class Companion:
    """Publisher of faults beside a bag that is played. now_ns: stamp of the newest cloud of the bag."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("companion", context=self._context)
        self.executor = SingleThreadedExecutor(context=self._context)
        self.executor.add_node(self.node)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publishers = {
            topic: self.node.create_publisher(kind, topic, 50)
            for topic, kind in (
                ("/lidar/points", PointCloud2),
                ("/tf", TFMessage),
                (f"{CAMERA}/image/compressed", CompressedImage),
                (f"{CAMERA}/camera_info", CameraInfo),
                ("/keyframe", Header),
            )
        }
        self._publishers["/tf_static"] = self.node.create_publisher(TFMessage, "/tf_static", latched)
        self.now_ns, self._mounting = 0, TFMessage()
        self.node.create_subscription(PointCloud2, "/lidar/points", self._on_cloud, 10, raw=True)
        self.node.create_subscription(TFMessage, "/tf_static", self._on_static, latched)

    def publish(self, topic: str, message: Any) -> None:
        """Publish a message, or its bytes."""
        self._publishers[topic].publish(message)

    def mend(self) -> None:
        """Publish the bag's own static transforms after others in their place."""
        time.sleep(MENDED_S)
        self.publish("/tf_static", self._mounting)

    def close(self) -> None:
        """Leave DDS."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _on_cloud(self, data: Any) -> None:
        stamp = header_stamp_ns(data)
        if len(data) > 100_000:  # of the bag, for those of this companion are small
            self.now_ns = stamp

    def _on_static(self, message: TFMessage) -> None:
        if len(message.transforms) > len(self._mounting.transforms):
            self._mounting = message


def _stamped(message: Any, stamp_ns: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
    return message


def _cloud(
    companion: Companion, points: np.ndarray | None = None, ahead_ns: int = 0, frame: str = "lidar_top"
) -> PointCloud2:
    """Make a cloud of few points, a millisecond after the bag's newest, or further ahead."""
    points = np.linspace(1, 30, 400, dtype=np.float32).reshape(100, 4) if points is None else points
    message = PointCloud2(
        height=1,
        width=len(points),
        point_step=16,
        row_step=16 * len(points),
        fields=[
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, name in enumerate(("x", "y", "z", "intensity"))
        ],
        data=array("B", points.astype("<f4").tobytes()),
    )
    message.header.frame_id = frame
    return _stamped(message, companion.now_ns + SECOND // 1000 + ahead_ns)


def _cloud_with(**fields: Any) -> Fault:
    def publish(companion: Companion) -> None:
        message = _cloud(companion)
        for name, value in fields.items():
            setattr(message, name, value)
        companion.publish("/lidar/points", message)

    return publish


def _cloud_stamped(seconds: int, nanoseconds: int) -> Fault:
    def publish(companion: Companion) -> None:
        message = _cloud(companion)
        message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
        companion.publish("/lidar/points", message)

    return publish


def _cloud_of(value: float) -> Fault:
    return lambda companion: companion.publish("/lidar/points", _cloud(companion, np.full((100, 4), value)))


def _cloud_at(ahead_ns: int, frame: str = "lidar_top") -> Fault:
    return lambda companion: companion.publish("/lidar/points", _cloud(companion, None, ahead_ns, frame))


def _outside_its_point(companion: Companion) -> None:
    message: Any = _cloud(companion)
    message.fields[3].offset = 2**31 - 1
    companion.publish("/lidar/points", message)


def _damaged(topic: str, make: Callable[[Companion], Any], cut: bool) -> Fault:
    """Publish half a message, or one with a name that is no UTF-8."""

    def publish(companion: Companion) -> None:
        data = serialize_message(make(companion))
        companion.publish(topic, data[: len(data) // 2] if cut else data.replace(MARK, BROKEN))

    return publish


def _transforms(*edges: tuple[str, str, int], position: Sequence[float] = (0, 0, 0), w: float = 1.0) -> TFMessage:
    """Make a message of (parent, child, stamp [ns]) that all have one pose."""
    message: Any = TFMessage()
    for parent, child, stamp_ns in edges:
        stamped = TransformStamped(header=Header(frame_id=parent), child_frame_id=child)
        x, y, z = map(float, position)
        stamped.transform.translation, stamped.transform.rotation = Vector3(x=x, y=y, z=z), Quaternion(w=w)
        message.transforms.append(_stamped(stamped, stamp_ns))
    return message


def _odometry(ahead_ns: int, times: int = 1) -> Fault:
    def publish(companion: Companion) -> None:
        for i in range(times):
            stamp = companion.now_ns + ahead_ns + i * SECOND // 50
            companion.publish("/tf", _transforms(("odom", "base_link", stamp)))

    return publish


def _two_clocks(companion: Companion) -> None:
    for i in range(20):
        stamp = companion.now_ns + i
        companion.publish("/tf", _transforms(("base_link", "wheel", stamp), ("base_link", "wheel", stamp - 2 * SECOND)))


def _two_parents(companion: Companion) -> None:
    for i in range(20):
        companion.publish("/tf", _transforms(("map", "base_link", companion.now_ns + i), position=(500, 0, 0)))


def _static(parent: str, child: str, position: Sequence[float] = (0, 0, 0)) -> Fault:
    def publish(companion: Companion) -> None:
        companion.publish("/tf_static", _transforms((parent, child, companion.now_ns), position=position))
        companion.mend()

    return publish


def _a_minute_back(companion: Companion) -> None:
    for i in range(6):
        stamp = -60 * SECOND + i * SECOND // 20
        _odometry(stamp)(companion)
        _cloud_at(stamp)(companion)


def _image(content: bytes, form: str = "rgb8; jpeg compressed bgr8", seconds: int | None = None) -> Fault:
    def publish(companion: Companion) -> None:
        message = CompressedImage(format=form, data=array("B", content))
        message.header.frame_id = "cam_front"
        _stamped(message, companion.now_ns)
        message.header.stamp.sec = message.header.stamp.sec if seconds is None else seconds
        companion.publish(f"{CAMERA}/image/compressed", message)

    return publish


def _info(**fields: Any) -> Fault:
    def publish(companion: Companion) -> None:
        message = CameraInfo(width=1600, height=900, k=[1000.0, 0, 800, 0, 1000, 450, 0, 0, 1], **fields)
        message.header.frame_id = "cam_front"
        companion.publish(f"{CAMERA}/camera_info", _stamped(message, companion.now_ns))

    return publish


def _keyframe(seconds: int | None, ahead_s: int = 0) -> Fault:
    def publish(companion: Companion) -> None:
        message = Header()
        message.stamp.sec = companion.now_ns // SECOND + ahead_s if seconds is None else seconds
        companion.publish("/keyframe", message)

    return publish


def _to_wheel(companion: Companion) -> TFMessage:
    return _transforms(("odom", f"wheel_{MARK.decode()}", companion.now_ns))


def _to_wheel_before_1970(companion: Companion) -> None:
    companion.publish("/tf", _transforms(("odom", "wheel", -37 * SECOND)))


HUGE_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\2\0\0\0" + bytes(40)
FAULTS: dict[str, Fault] = {
    "cloud, stamp before 1970": _cloud_stamped(-37, 0),
    "cloud, nanoseconds overflow": _cloud_stamped(2**31 - 1, 2**32 - 1),
    "cloud, frame is no UTF-8": _damaged("/lidar/points", lambda c: _cloud(c, frame="lidar_XXX"), cut=False),
    "cloud, half a message": _damaged("/lidar/points", _cloud, cut=True),
    "cloud, field outside its point": _outside_its_point,
    "cloud, size overflows": _cloud_with(height=2**32 - 1, width=2**32 - 1),
    "cloud, row_step 0 of two rows": _cloud_with(height=2, width=50, row_step=0),
    "cloud, less data than declared": _cloud_with(width=5000),
    "cloud, no fields": _cloud_with(fields=[]),
    "cloud, no points": _cloud_with(width=0, row_step=0, data=array("B")),
    "cloud, nothing but NaN": _cloud_of(np.nan),
    "cloud, nothing but zero": _cloud_of(0.0),
    "cloud, unknown frame": _cloud_at(0, "somewhere"),
    "cloud, an hour ahead": _cloud_at(HOUR),
    "cloud, a minute back": _cloud_at(-60 * SECOND),
    "cloud and odometry, a minute back": _a_minute_back,
    "tf, stamp before 1970": _to_wheel_before_1970,
    "tf, frame is no UTF-8": _damaged("/tf", _to_wheel, cut=False),
    "tf, half a message": _damaged("/tf", _to_wheel, cut=True),
    "tf, NaN": lambda c: c.publish("/tf", _transforms(("odom", "base_link", c.now_ns), position=(np.nan, 0, 0))),
    "tf, no rotation": lambda c: c.publish("/tf", _transforms(("odom", "base_link", c.now_ns), w=0.0)),
    "tf, its own parent": lambda c: c.publish("/tf", _transforms(("base_link", "base_link", c.now_ns))),
    "tf, two clocks of one wheel": _two_clocks,
    "tf, two parents of base_link": _two_parents,
    "tf, odometry with stamp 0": lambda c: c.publish("/tf", _transforms(("odom", "base_link", 0))),
    "tf, odometry an hour ahead": _odometry(HOUR),
    "tf, odometry a minute back": _odometry(-60 * SECOND, times=3),
    "tf_static, mounting 0.3 m off": _static("base_link", "lidar_top", (1.2, 0, 1.8)),
    "tf_static, another parent": _static("chassis", "lidar_top"),
    "tf_static, a circle": _static("lidar_top", "base_link"),
    "image, cut JPEG": _image(b"\xff\xd8\xff\xe0" + bytes(300)),
    "image, no bytes": _image(b""),
    "image, PNG of 65536×65536": _image(HUGE_PNG, "rgb8; png compressed bgr8"),
    "image, packet of video": _image(bytes(400), "h264"),
    "image, stamp before 1970": _image(b"\xff\xd8", seconds=-37),
    "camera_info, unknown distortion": _info(distortion_model="mei", d=[0.1] * 5),
    "camera_info, two coefficients": _info(distortion_model="plumb_bob", d=[0.1, 0.1]),
    "keyframe, stamp before 1970": _keyframe(-37),
    "keyframe, an hour ahead": _keyframe(None, 3600),
}

"""Poses in time by tf2, as in every other ROS node. tf2_py comes with a ROS installation and not from PyPI."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import tf2_py  # pyright: ignore[reportMissingImports]
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.time import Time
from std_msgs.msg import Header

from vexkd_model.geometry.transforms import matrix_from_pose
from vexkd_ros.inputs.errors import beyond_newest, beyond_oldest
from vexkd_ros.inputs.poses import HISTORY_NS, HOLD_NS

AUTHORITY = "vexkd_ros"


class Tf2Poses:
    """Poses with the interface of our own, in tf2's BufferCore. Source: Foote, "tf: The transform library", TePRA 2013.

    To it, a lookup at time zero asks for the newest.
    """

    def __init__(self) -> None:
        self._core = tf2_py.BufferCore(Duration(nanoseconds=HISTORY_NS))
        self._recent: dict[str, deque[TransformStamped]] = {}  # by child frame: what moves, as tf2 keeps it

    def insert(
        self, parent: str, child: str, stamp_ns: int, translation: np.ndarray, quaternion: np.ndarray, static: bool
    ) -> None:
        x, y, z = translation.tolist()
        qw, qx, qy, qz = (quaternion / np.linalg.norm(quaternion)).tolist()  # tf2 refuses any other length
        message = TransformStamped(
            header=Header(stamp=Time(nanoseconds=stamp_ns).to_msg(), frame_id=parent),
            child_frame_id=child,
            transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)),
        )
        if static:
            self._core.set_transform_static(message, AUTHORITY)
            return
        self._core.set_transform(message, AUTHORITY)
        recent = self._recent.setdefault(child, deque())
        recent.append(message)
        while _stamp_ns(recent[0]) < _stamp_ns(recent[-1]) - HISTORY_NS:
            recent.popleft()

    def forget(self, child: str) -> None:
        self._recent.pop(child, None)
        self._core.clear()  # tf2 keeps what is static, and cannot forget a single frame
        for recent in self._recent.values():
            for message in recent:
                self._core.set_transform(message, AUTHORITY)

    def lookup(self, from_target: Sequence[str], from_source: Sequence[str], stamp_ns: int) -> np.ndarray:
        target, source = (path[0].removeprefix("/") for path in (from_target, from_source))  # as tf2 stores them
        try:
            return self._at(target, source, stamp_ns)
        except tf2_py.ExtrapolationException:
            newest_ns = self._core.get_latest_common_time(target, source).nanoseconds
        if newest_ns < stamp_ns <= newest_ns + HOLD_NS:
            return self._at(target, source, newest_ns)
        if stamp_ns > newest_ns:
            raise beyond_newest(target, source, stamp_ns, newest_ns)
        try:
            return self._at(target, source, stamp_ns + HOLD_NS)  # tf2 does not tell which is the oldest
        except tf2_py.ExtrapolationException:
            raise beyond_oldest(target, source, stamp_ns) from None

    def _at(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        found = self._core.lookup_transform_core(target, source, Time(nanoseconds=stamp_ns)).transform
        return matrix_from_pose(
            (found.translation.x, found.translation.y, found.translation.z),
            (found.rotation.w, found.rotation.x, found.rotation.y, found.rotation.z),
        )


def _stamp_ns(message: TransformStamped) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec

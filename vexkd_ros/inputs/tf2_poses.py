"""Poses in time by tf2, as in every other ROS node. tf2_py comes with a ROS installation and not from PyPI."""

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


class Tf2Poses:
    """Poses with the interface of our own, in tf2's BufferCore. Source: Foote, "tf: The transform library", TePRA 2013.

    To it, a lookup at time zero asks for the newest.
    """

    def __init__(self) -> None:
        self._core = tf2_py.BufferCore(Duration(nanoseconds=HISTORY_NS))

    def insert(self, parent: str, child: str, stamp_ns: int, translation: np.ndarray, quaternion: np.ndarray,
               static: bool) -> None:
        x, y, z = translation.tolist()
        qw, qx, qy, qz = (quaternion / np.linalg.norm(quaternion)).tolist()  # tf2 refuses any other length
        told = TransformStamped(
            header=Header(stamp=Time(nanoseconds=stamp_ns).to_msg(), frame_id=parent), child_frame_id=child,
            transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)))
        (self._core.set_transform_static if static else self._core.set_transform)(told, "vexkd_ros")

    def forget_moving(self) -> None:
        self._core.clear()  # tf2 keeps what is static

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
        return matrix_from_pose((found.translation.x, found.translation.y, found.translation.z),
                                (found.rotation.w, found.rotation.x, found.rotation.y, found.rotation.z))

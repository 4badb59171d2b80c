"""Where sensors sit and how the vehicle moved, from a recording's transforms. Needs no ROS."""

from bisect import bisect_left
from typing import Any

import numpy as np

from vexkd_model.geometry.transforms import inverse, matrix_from_pose
from vexkd_ros.inputs.errors import TransformUnavailable
from vexkd_ros.inputs.transforms import TransformBuffer

BASE, ODOM = "base_link", "odom"


class Poses:
    """transforms: (tf2_msgs/TFMessage, whether it came on /tf_static), of all times."""

    def __init__(self, transforms: list[tuple[Any, bool]]) -> None:
        self._static = TransformBuffer()
        self._odom_from_base: dict[int, np.ndarray] = {}  # a TransformBuffer forgets what is older than seconds
        for message, static in transforms:
            if static:
                self._static.insert_message(message, static=True)
                continue
            for stamped in message.transforms:
                if (stamped.header.frame_id, stamped.child_frame_id) == (ODOM, BASE):
                    t, q = stamped.transform.translation, stamped.transform.rotation
                    stamp = stamped.header.stamp.sec * 10**9 + stamped.header.stamp.nanosec
                    self._odom_from_base[stamp] = matrix_from_pose((t.x, t.y, t.z), (q.w, q.x, q.y, q.z))
        self._stamps = sorted(self._odom_from_base)

    def mount(self, frame: str) -> np.ndarray | None:
        """(4, 4) base_link from a sensor's frame; None where /tf_static does not tell."""
        try:
            return self._static.lookup(BASE, frame, 0)
        except TransformUnavailable:
            return None

    def moved(self, then_ns: int, now_ns: int) -> np.ndarray:
        """(4, 4) base_link at `now_ns` from base_link at `then_ns`; the vehicle stands where there is no odometry."""
        if not self._stamps:
            return np.eye(4)
        return inverse(self._pose(now_ns)) @ self._pose(then_ns)

    def _pose(self, stamp_ns: int) -> np.ndarray:
        """The pose nearest in time: bags of ours have one at every sensor's stamp."""
        after = bisect_left(self._stamps, stamp_ns)
        return self._odom_from_base[min(self._stamps[max(after - 1, 0) : after + 1],
                                        key=lambda stamp: abs(stamp - stamp_ns))]

"""Past images of the cameras, for students with history."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from vexkd_model.geometry.transforms import inverse
from vexkd_model.types import POINT_FIELDS, CameraImage, Frame, PastFrame
from vexkd_ros.inputs.camera_views import CameraFrameSet
from vexkd_ros.inputs.errors import TransformUnavailable

INTERVAL_NS = 500_000_000  # between the moments that a student learnt with: nuScenes' keyframes
NO_IMAGE = "no camera has a usable image"
NO_POINTS = np.empty((0, len(POINT_FIELDS)), np.float32)
CLOSE_NS = 100_000_000  # moments closer to one another than this are not all kept


@dataclass(frozen=True)
class _PastViews:
    stamp_ns: int
    cameras: tuple[CameraImage, ...]
    odom_from_base: np.ndarray


class CameraHistory:
    """History of the last `past_frames` · 0.5 s, for a student with history; empty where `past_frames` is 0."""

    def __init__(self, past_frames: int) -> None:
        self._past_frames = past_frames
        self._moments: deque[_PastViews] = deque()

    def frame(self, stamp_ns: int, views: CameraFrameSet) -> Frame:
        """Make the Frame of a moment with its past, and remember the moment.

        Raises TransformUnavailable where not a single camera can be used.
        """
        if not views.cameras:
            raise TransformUnavailable(NO_IMAGE, "; ".join(reason.text for reason in views.reasons))
        past = self.past(stamp_ns, views.odom_from_base)
        self.add(stamp_ns, views.cameras, views.odom_from_base)
        return Frame(NO_POINTS, stamp_ns, cameras=views.cameras, past=past)

    def past(self, stamp_ns: int, odom_from_base: np.ndarray | None) -> tuple[PastFrame, ...]:
        """Return the moments 0.5, 1.0 … s ago, newest first, up to the first that is missing; none without odometry."""
        if self._moments and stamp_ns <= self._moments[-1].stamp_ns:
            self._moments.clear()  # time went back: another drive
        past: list[PastFrame] = []
        if odom_from_base is None:
            return ()
        for steps in range(1, self._past_frames + 1):
            wanted = stamp_ns - steps * INTERVAL_NS
            nearest = min(self._moments, key=lambda moment: abs(moment.stamp_ns - wanted), default=None)
            if nearest is None or abs(nearest.stamp_ns - wanted) > INTERVAL_NS // 2:
                break
            past.append(PastFrame(nearest.cameras, inverse(odom_from_base) @ nearest.odom_from_base))
        return tuple(past)

    def add(self, stamp_ns: int, cameras: tuple[CameraImage, ...], odom_from_base: np.ndarray | None) -> None:
        """Remember a moment that is later than all before it."""
        if not self._past_frames or odom_from_base is None:
            return
        if self._moments and stamp_ns - self._moments[-1].stamp_ns < CLOSE_NS:
            return
        self._moments.append(_PastViews(stamp_ns, cameras, odom_from_base))
        while stamp_ns - self._moments[0].stamp_ns > (self._past_frames + 1) * INTERVAL_NS:
            self._moments.popleft()

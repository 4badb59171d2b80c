"""Transforms of /tf and /tf_static: the tree of frames, and a pose between any two of them at a time."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vexkd_ros.inputs.errors import TransformUnavailable

try:
    from vexkd_ros.inputs.tf2_poses import Tf2Poses as AvailablePoses
except ImportError:  # no ROS installation
    from vexkd_ros.inputs.poses import Poses as AvailablePoses

JUMP_NS = 1_000_000_000  # further back than a late message: time itself jumped (a bag that loops)


class TransformBuffer:
    """Buffer of transforms; thread-safe. Frames form a tree: each child has one parent, the newest that was published.

    Interpolation is tf2's where there is one. What tf2 leaves to its listeners and callers is here: the jump in time,
    waiting, and the reason where there is no answer.
    """

    def __init__(self, poses: Callable[[], AvailablePoses] = AvailablePoses) -> None:
        self._make_poses = poses
        self._changed = threading.Condition()
        self.clear()

    def insert(self, parent: str, child: str, stamp_ns: int, translation: Sequence[float],
               quaternion_wxyz: Sequence[float], static: bool = False) -> None:
        """Take in `parent_from_child`: translation [m], quaternion w, x, y, z of any non-zero length.

        A stamp more than a second behind the newest one of its frame clears everything that is not static.
        Raises ValueError for numbers that are no pose and for a frame that is its own parent.
        """
        pose = np.asarray(translation, dtype=np.float64), np.asarray(quaternion_wxyz, dtype=np.float64)
        length = np.linalg.norm(pose[1])
        if not (np.isfinite(pose[0]).all() and np.isfinite(length) and length > 1e-6):
            raise ValueError(f"the transform {parent} → {child} is not a pose")
        if not parent or not child or parent == child:
            raise ValueError(f"the transform '{parent}' → '{child}' does not join two frames")
        with self._changed:
            if not static and stamp_ns < self._newest.get(child, stamp_ns) - JUMP_NS:
                self._forget_moving()
            self._parents[child] = parent
            if static:
                self._newest.pop(child, None)
            else:
                self._newest[child] = max(stamp_ns, self._newest.get(child, stamp_ns))
            self._poses.insert(parent, child, stamp_ns, *pose, static)
            self._changed.notify_all()

    def insert_message(self, message: Any, static: bool) -> list[str]:
        """Take in a tf2_msgs/TFMessage; return what is wrong with those of its transforms that had to be left out."""
        problems = []
        for stamped in message.transforms:
            translation, rotation = stamped.transform.translation, stamped.transform.rotation
            try:
                self.insert(stamped.header.frame_id, stamped.child_frame_id,
                            stamped.header.stamp.sec * 10**9 + stamped.header.stamp.nanosec,
                            (translation.x, translation.y, translation.z),
                            (rotation.w, rotation.x, rotation.y, rotation.z), static)
            except ValueError as error:
                problems.append(f"{error}; correct who publishes it")
        return problems

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return (4, 4) `target_from_source` at a time. Raises TransformUnavailable, never answers with a guess."""
        if target == source:
            return np.eye(4)
        with self._changed:
            from_source, from_target = self._path_to_root(source), self._path_to_root(target)
            common = next((frame for frame in from_source if frame in from_target), None)
            if common is None:
                raise TransformUnavailable(self._why_unconnected(target, source))
            return self._poses.lookup(from_target[: from_target.index(common) + 1],
                                      from_source[: from_source.index(common) + 1], stamp_ns)

    def wait(self, target: str, source: str, stamp_ns: int, deadline: float, for_unknown: bool = False) -> np.ndarray:
        """Look up, but wait until `deadline` (time.monotonic()) for a transform that should come any moment.

        for_unknown: also wait where the frames are not connected yet.
        """
        while True:
            with self._changed:  # a Condition's lock is re-entrant: no insertion slips in between look and wait
                try:
                    return self.lookup(target, source, stamp_ns)
                except TransformUnavailable as error:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0 or not (error.coming or for_unknown):
                        raise
                    self._changed.wait(remaining)

    def clear(self) -> None:
        """Forget everything, static transforms too."""
        with self._changed:
            self._parents: dict[str, str] = {}
            self._newest: dict[str, int] = {}  # stamp by child frame, of those that move
            self._poses = self._make_poses()

    def _forget_moving(self) -> None:
        self._parents = {child: parent for child, parent in self._parents.items() if child not in self._newest}
        self._newest = {}
        self._poses.forget_moving()

    def _path_to_root(self, frame: str) -> list[str]:
        """Return the frame and its ancestors. Raises TransformUnavailable where they run in a circle."""
        path = [frame]
        while path[-1] in self._parents:
            parent = self._parents[path[-1]]
            if parent in path:
                raise TransformUnavailable(f"the transforms run in a circle: {' → '.join([*path, parent])}")
            path.append(parent)
        return path

    def _why_unconnected(self, target: str, source: str) -> str:
        known = {*self._parents, *self._parents.values()}
        unknown = [name for name in (source, target) if name not in known]
        if unknown:
            return (f"no transform {target} → {source}: nothing on /tf or /tf_static names {' or '.join(unknown)}; "
                    "publish it, or correct the sensor's frame_id, base_frame or odom_frame")
        return f"no transform {target} → {source}: the two frames are not connected; publish what joins them"

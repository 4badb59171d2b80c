"""Transforms of /tf and /tf_static: the tree of frames, and a pose between any two of them at a time."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vexkd_model.geometry.transforms import inverse, matrix_from_pose
from vexkd_ros.inputs.errors import Reason, TransformUnavailable

try:
    from vexkd_ros.inputs.tf2_poses import Tf2Poses as AvailablePoses
except ImportError:  # no ROS installation
    from vexkd_ros.inputs.poses import Poses as AvailablePoses

JUMP_NS = 1_000_000_000  # further back than a late message: a stray one, or time itself jumped (a bag that loops)
STRAYS = 5  # old messages of a frame without a newer one between them: its time jumped
TOGETHER_S = 5.0  # static transforms that come so close to one another are of one drive
SAME_M, SAME_DEG = 1e-3, 0.05  # poses that differ by less are the same, published twice


class _Pose(NamedTuple):
    """Pose `parent_from_child`. quaternion: w, x, y, z of any non-zero length."""

    parent: str
    stamp_ns: int
    translation: np.ndarray
    quaternion: np.ndarray


class TransformBuffer:
    """Buffer of transforms; thread-safe. Frames form a tree: each child has one parent.

    Interpolation is tf2's where there is one. What tf2 leaves to its listeners and callers is here: the jump in time,
    publishers that contradict one another, waiting, and the reason where there is no answer.
    """

    def __init__(
        self,
        poses: Callable[[], AvailablePoses] = AvailablePoses,
        hint: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """hint: what to add where a frame is in no transform at all.

        clock: by which contradictions are of one time and age [s]; one that stands keeps all of them.
        """
        self._make_poses, self._hint, self._clock = poses, hint, clock
        self._changed = threading.Condition()
        self.clear()

    def insert(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Sequence[float],
        quaternion_wxyz: Sequence[float],
        static: bool = False,
    ) -> None:
        """Take in `parent_from_child`: translation [m], quaternion w, x, y, z of any non-zero length.

        Raises ValueError for numbers that are no pose and for a frame that is its own parent.
        """
        pose = _Pose(parent, stamp_ns, np.asarray(translation, np.float64), np.asarray(quaternion_wxyz, np.float64))
        length = np.linalg.norm(pose.quaternion)
        if not (np.isfinite(pose.translation).all() and np.isfinite(length) and length > 1e-6):
            raise ValueError(f"the transform {parent} → {child} is not a pose")
        if not parent or not child or parent == child:
            raise ValueError(f"the transform '{parent}' → '{child}' does not join two frames")
        if stamp_ns < 0:
            raise ValueError(f"the transform {parent} → {child} has a stamp before 1970")
        with self._changed:
            if static:
                self._insert_static(child, pose)
            else:
                self._insert_moving(child, pose)
            self._changed.notify_all()

    def _insert_static(self, child: str, pose: _Pose) -> None:
        before, received = self._fixed.get(child, (None, 0.0))
        if before is not None and self._clock() - received < TOGETHER_S:
            self._compare_static(child, before, pose)
        self._fixed[child] = pose, self._clock()
        self._newest.pop(child, None)
        self._store(child, pose, static=True)

    def _insert_moving(self, child: str, pose: _Pose) -> None:
        newest = self._newest.get(child, pose.stamp_ns)
        if pose.stamp_ns < newest - JUMP_NS:
            strays = self._strays.setdefault(child, [])
            strays.append(pose)
            if len(strays) == STRAYS:
                self._go_back(child)
            return
        self._strays.pop(child, None)
        parent = self._parents.get(child, pose.parent)
        if parent != pose.parent and child in self._newest and pose.stamp_ns - newest <= JUMP_NS:
            kind = (
                f"{child} has two parents on /tf, {parent} and {pose.parent}; {parent} is used: let only one node "
                f"publish {child}"
            )
            apart = f"{abs(pose.stamp_ns - newest) / 1e9:.3f} s between their stamps"
            self._conflicts[child] = self._clock() + TOGETHER_S, Reason(kind, f"{kind} ({apart})")
            return
        self._newest[child] = max(pose.stamp_ns, newest)
        self._store(child, pose, static=False)

    def _store(self, child: str, pose: _Pose, static: bool) -> None:
        self._parents[child] = pose.parent
        self._poses.insert(pose.parent, child, pose.stamp_ns, pose.translation, pose.quaternion, static)

    def _go_back(self, child: str) -> None:
        """Forget a frame's history, for its time has jumped back to that of the strays."""
        strays = sorted(self._strays.pop(child), key=lambda pose: pose.stamp_ns)
        self._poses.forget(child)
        self._newest[child] = strays[-1].stamp_ns
        for pose in strays:
            self._store(child, pose, static=False)

    def _compare_static(self, child: str, before: _Pose, pose: _Pose) -> None:
        if before.parent != pose.parent:
            what = f"{child} has two parents on /tf_static, {before.parent} and {pose.parent}"
        else:
            apart = inverse(matrix_from_pose(before.translation, before.quaternion)) @ matrix_from_pose(
                pose.translation, pose.quaternion
            )
            metres = float(np.linalg.norm(apart[:3, 3]))
            degrees = float(np.degrees(np.arccos(np.clip((np.trace(apart[:3, :3]) - 1) / 2, -1, 1))))
            if metres < SAME_M and degrees < SAME_DEG:
                return
            what = f"two transforms {pose.parent} → {child} on /tf_static differ by {metres:.3f} m and {degrees:.2f}°"
        text = f"{what}; the later one is used: stop one of those who publish it"
        self._conflicts[child] = math.inf, Reason(text, text)

    def conflicts(self) -> list[Reason]:
        """List contradictions between publishers about the frames that were looked up, with their cures."""
        with self._changed:
            now = self._clock()
            return [reason for child, (until, reason) in self._conflicts.items() if child in self._used and until > now]

    def insert_message(self, message: Any, static: bool) -> list[str]:
        """Take in a tf2_msgs/TFMessage; return what is wrong with those of its transforms that had to be left out."""
        problems = []
        for stamped in message.transforms:
            translation, rotation = stamped.transform.translation, stamped.transform.rotation
            try:
                self.insert(
                    stamped.header.frame_id,
                    stamped.child_frame_id,
                    stamped.header.stamp.sec * 10**9 + stamped.header.stamp.nanosec,
                    (translation.x, translation.y, translation.z),
                    (rotation.w, rotation.x, rotation.y, rotation.z),
                    static,
                )
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
                self._used |= {*from_source, *from_target}
                raise TransformUnavailable(self._why_unconnected(target, source, {*from_source, *from_target}))
            to_common = (from_target[: from_target.index(common) + 1], from_source[: from_source.index(common) + 1])
            moved = {*to_common[0][:-1], *to_common[1][:-1]}
            self._used |= moved
            try:
                return self._poses.lookup(*to_common, stamp_ns)
            except TransformUnavailable:
                jumped = [child for child in moved if self._is_back_at(child, stamp_ns)]
                if not jumped:
                    raise
            for child in jumped:
                self._go_back(child)
            return self._poses.lookup(*to_common, stamp_ns)

    def _is_back_at(self, child: str, stamp_ns: int) -> bool:
        """Return whether a sensor's stamp agrees with a frame's old messages: then they are no strays."""
        return any(abs(pose.stamp_ns - stamp_ns) < JUMP_NS for pose in self._strays.get(child, ()))

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
            self._strays: dict[str, list[_Pose]] = {}  # by child frame: older than its newest by more than JUMP_NS
            self._fixed: dict[str, tuple[_Pose, float]] = {}  # by child frame: on /tf_static, when it came
            self._conflicts: dict[str, tuple[float, Reason]] = {}  # by child frame: until when it counts
            self._used: set[str] = set()  # child frames of the chains that were looked up
            self._poses = self._make_poses()

    def _path_to_root(self, frame: str) -> list[str]:
        """Return the frame and its ancestors. Raises TransformUnavailable where they run in a circle."""
        path = [frame]
        while path[-1] in self._parents:
            parent = self._parents[path[-1]]
            if parent in path:
                raise TransformUnavailable(f"the transforms run in a circle: {' → '.join([*path, parent])}")
            path.append(parent)
        return path

    def _why_unconnected(self, target: str, source: str, frames: set[str]) -> str:
        """Say why; frames: both, with their ancestors."""
        known = {*self._parents, *self._parents.values()}
        unknown = [name for name in (source, target) if name not in known]
        if unknown:
            return (
                f"no transform {target} → {source}: nothing on /tf or /tf_static names {' or '.join(unknown)}; "
                f"publish it, or correct the sensor's frame_id, base_frame or odom_frame{self._hint()}"
            )
        torn = [
            reason.kind
            for child, (until, reason) in self._conflicts.items()
            if child in frames and until > self._clock()
        ]
        why = torn[0] if torn else "the two frames are not connected; publish what joins them"
        return f"no transform {target} → {source}: {why}"

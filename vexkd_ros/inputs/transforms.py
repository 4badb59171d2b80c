"""A small transform buffer on /tf and /tf_static: the tree, its recent past, and interpolation in between."""

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vexkd_model.geometry.transforms import inverse, matrix_from_pose

HISTORY_NS = 10_000_000_000
HOLD_NS = 5_000_000  # just outside the history, its end is used as it is; beyond that there is no answer
JUMP_NS = 1_000_000_000  # further back than a late message: time itself jumped (a bag that loops)
COMING_NS = 1_000_000_000  # a stamp further ahead of the newest transform is not worth waiting for


class TransformUnavailable(LookupError):
    """No answer, and why, in one line. `kind` is the same text without times; `coming`: worth waiting a moment."""

    def __init__(self, kind: str, detail: str = "", coming: bool = False) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.coming = coming


@dataclass
class _Edge:
    """Poses of one child frame in its parent, sorted by stamp; a static edge has one, valid at all times."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    poses: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def insert(self, stamp_ns: int, translation: np.ndarray, quaternion: np.ndarray) -> None:
        if stamp_ns not in self.poses:
            insort(self.stamps, stamp_ns)
        self.poses[stamp_ns] = (translation, quaternion)
        while self.stamps[0] < self.stamps[-1] - HISTORY_NS:
            del self.poses[self.stamps.pop(0)]


class TransformBuffer:
    """Thread-safe. Frames form a tree: each child has one parent, the newest one that was told."""

    def __init__(self) -> None:
        self._edges: dict[str, _Edge] = {}
        self._changed = threading.Condition()

    def insert(self, parent: str, child: str, stamp_ns: int, translation: Sequence[float],
               quaternion_wxyz: Sequence[float], static: bool = False) -> None:
        """Take in `parent_from_child`: translation [m], quaternion w, x, y, z of any non-zero length.

        A stamp more than a second behind the newest one of its edge clears everything that is not static.
        Raises ValueError for numbers that are no pose and for a frame that is its own parent.
        """
        pose = np.asarray(translation, dtype=np.float64), np.asarray(quaternion_wxyz, dtype=np.float64)
        length = np.linalg.norm(pose[1])
        if not (np.isfinite(pose[0]).all() and np.isfinite(length) and length > 1e-6):
            raise ValueError(f"the transform {parent} → {child} is not a pose")
        if not parent or not child or parent == child:
            raise ValueError(f"the transform '{parent}' → '{child}' does not join two frames")
        with self._changed:
            edge = self._edges.get(child)
            if edge and not static and not edge.static and stamp_ns < edge.stamps[-1] - JUMP_NS:
                self._edges = {name: kept for name, kept in self._edges.items() if kept.static}
            if child not in self._edges or static or edge.static or edge.parent != parent:
                self._edges[child] = _Edge(parent, static)
            self._edges[child].insert(stamp_ns, *pose)  # as told: normalising twice would move points by a rounding
            self._changed.notify_all()

    def insert_message(self, message: Any, static: bool) -> list[str]:
        """Take in a tf2_msgs/TFMessage; what is wrong with those transforms in it that had to be left out."""
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
        """(4, 4) `target_from_source` at a time. Raises TransformUnavailable, never answers with a guess."""
        if target == source:
            return np.eye(4)
        with self._changed:
            to_source, to_target = self._path_to_root(source), self._path_to_root(target)
            common = next((frame for frame in to_source if frame in to_target), None)
            if common is None:
                raise TransformUnavailable(self._why_unconnected(target, source))
            common_from_source = self._climb(to_source, common, stamp_ns)
            common_from_target = self._climb(to_target, common, stamp_ns)
        return inverse(common_from_target) @ common_from_source

    def wait(self, target: str, source: str, stamp_ns: int, deadline: float, for_unknown: bool = False) -> np.ndarray:
        """As lookup, but waits until `deadline` (time.monotonic()) for a transform that should come any moment.

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
            self._edges.clear()

    def _path_to_root(self, frame: str) -> list[str]:
        """The frame and its ancestors. Raises TransformUnavailable where they run in a circle."""
        path = [frame]
        while path[-1] in self._edges:
            parent = self._edges[path[-1]].parent
            if parent in path:
                raise TransformUnavailable(f"the transforms run in a circle: {' → '.join([*path, parent])}")
            path.append(parent)
        return path

    def _climb(self, path: list[str], ancestor: str, stamp_ns: int) -> np.ndarray:
        """(4, 4) `ancestor_from_path[0]`."""
        ancestor_from_frame = np.eye(4)
        for child in path[: path.index(ancestor)]:
            ancestor_from_frame = _pose_at(child, self._edges[child], stamp_ns) @ ancestor_from_frame
        return ancestor_from_frame

    def _why_unconnected(self, target: str, source: str) -> str:
        known = set(self._edges) | {edge.parent for edge in self._edges.values()}
        unknown = [name for name in (source, target) if name not in known]
        if unknown:
            return (f"no transform {target} → {source}: nothing on /tf or /tf_static names {' or '.join(unknown)}; "
                    "publish it, or correct the cloud's frame_id, base_frame or odom_frame")
        return f"no transform {target} → {source}: the two frames are not connected; publish what joins them"


def _pose_at(child: str, edge: _Edge, stamp_ns: int) -> np.ndarray:
    """(4, 4) `parent_from_child`, interpolated between the neighbours in time."""
    first, last = edge.stamps[0], edge.stamps[-1]
    if not edge.static and not first - HOLD_NS <= stamp_ns <= last + HOLD_NS:
        off, end, word = (stamp_ns - last, last, "newest") if stamp_ns > last else (first - stamp_ns, first, "oldest")
        raise TransformUnavailable(
            f"no transform {edge.parent} → {child} at the cloud's time; check its clock and rate, or raise tf_timeout",
            f"{stamp_ns / 1e9:.6f} s is {off / 1e9:.3f} s beyond the {word}, {end / 1e9:.6f} s",
            coming=last < stamp_ns < last + COMING_NS)
    index = bisect_left(edge.stamps, stamp_ns)
    if edge.static or index == 0 or index == len(edge.stamps) or edge.stamps[index] == stamp_ns:
        return matrix_from_pose(*edge.poses[edge.stamps[min(index, len(edge.stamps) - 1)]])
    before, after = edge.stamps[index - 1], edge.stamps[index]
    fraction = (stamp_ns - before) / (after - before)
    (translation_0, quaternion_0), (translation_1, quaternion_1) = edge.poses[before], edge.poses[after]
    rotation = slerp(quaternion_0 / np.linalg.norm(quaternion_0), quaternion_1 / np.linalg.norm(quaternion_1), fraction)
    return matrix_from_pose(translation_0 + fraction * (translation_1 - translation_0), rotation)


def slerp(first: np.ndarray, second: np.ndarray, fraction: float) -> np.ndarray:
    """Unit quaternion at `fraction` of the shorter way from one unit quaternion to another, at constant speed."""
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    if cosine > 1 - 1e-10:
        blend = first + fraction * (second - first)
        return blend / np.linalg.norm(blend)
    angle = np.arccos(cosine)
    return (np.sin((1 - fraction) * angle) * first + np.sin(fraction * angle) * second) / np.sin(angle)

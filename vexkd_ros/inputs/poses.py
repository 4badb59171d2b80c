"""Poses in time, their recent past and interpolation in between, for where there is no tf2."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vexkd_model.geometry.transforms import inverse, matrix_from_pose
from vexkd_ros.inputs.errors import beyond_newest, beyond_oldest

HISTORY_NS = 10_000_000_000
HOLD_NS = 5_000_000  # just outside the history, its end is used as it is; beyond that there is no answer


@dataclass
class _Edge:
    """Poses of one child frame in its parent, sorted by stamp; a static edge has one, valid at all times."""

    parent: str
    static: bool
    history_ns: float = HISTORY_NS
    stamps: list[int] = field(default_factory=list)
    poses: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def insert(self, stamp_ns: int, translation: np.ndarray, quaternion: np.ndarray) -> None:
        if stamp_ns not in self.poses:
            insort(self.stamps, stamp_ns)
        self.poses[stamp_ns] = (translation, quaternion)
        while self.stamps[0] < self.stamps[-1] - self.history_ns:
            del self.poses[self.stamps.pop(0)]


class Poses:
    """Store of the poses of each child frame in its parent, the newest parent that was published.

    history_ns: how far they reach back from the newest.
    """

    def __init__(self, history_ns: float = HISTORY_NS) -> None:
        self._history_ns = history_ns
        self._edges: dict[str, _Edge] = {}

    def insert(
        self, parent: str, child: str, stamp_ns: int, translation: np.ndarray, quaternion: np.ndarray, static: bool
    ) -> None:
        """Take in `parent_from_child`: translation [m], quaternion w, x, y, z of any non-zero length."""
        edge = self._edges.get(child)
        if edge is None or static or edge.static or edge.parent != parent:
            edge = self._edges[child] = _Edge(parent, static, self._history_ns)
        edge.insert(stamp_ns, translation, quaternion)  # as told: normalising twice would move points by a rounding

    def forget(self, child: str) -> None:
        """Forget all poses of a frame."""
        self._edges.pop(child, None)

    def lookup(self, from_target: Sequence[str], from_source: Sequence[str], stamp_ns: int) -> np.ndarray:
        """Return (4, 4) `target_from_source` at a time. Raises TransformUnavailable where that is outside the history.

        from_target, from_source: each frame and its ancestors, up to the one that they share.
        """
        return inverse(self._climb(from_target, stamp_ns)) @ self._climb(from_source, stamp_ns)

    def _climb(self, path: Sequence[str], stamp_ns: int) -> np.ndarray:
        """Return (4, 4) `path[-1]_from_path[0]`."""
        ancestor_from_frame = np.eye(4)
        for child in path[:-1]:
            ancestor_from_frame = _pose_at(child, self._edges[child], stamp_ns) @ ancestor_from_frame
        return ancestor_from_frame


def _pose_at(child: str, edge: _Edge, stamp_ns: int) -> np.ndarray:
    """Return (4, 4) `parent_from_child`, interpolated between the neighbours in time."""
    first, last = edge.stamps[0], edge.stamps[-1]
    if not edge.static and stamp_ns > last + HOLD_NS:
        raise beyond_newest(edge.parent, child, stamp_ns, last)
    if not edge.static and stamp_ns < first - HOLD_NS:
        raise beyond_oldest(edge.parent, child, stamp_ns)
    index = bisect_left(edge.stamps, stamp_ns)
    if edge.static or index == 0 or index == len(edge.stamps) or edge.stamps[index] == stamp_ns:
        return matrix_from_pose(*edge.poses[edge.stamps[min(index, len(edge.stamps) - 1)]])
    before, after = edge.stamps[index - 1], edge.stamps[index]
    fraction = (stamp_ns - before) / (after - before)
    (translation_0, quaternion_0), (translation_1, quaternion_1) = edge.poses[before], edge.poses[after]
    rotation = slerp(quaternion_0 / np.linalg.norm(quaternion_0), quaternion_1 / np.linalg.norm(quaternion_1), fraction)
    return matrix_from_pose(translation_0 + fraction * (translation_1 - translation_0), rotation)


def slerp(first: np.ndarray, second: np.ndarray, fraction: float) -> np.ndarray:
    """Unit quaternion at `fraction` of the shorter way from one unit quaternion to another, at constant speed.

    Not scipy's Slerp: it takes 0.8 ms a pose, 70 times as long, and a frame needs ten or more.
    """
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    if cosine > 1 - 1e-10:
        blend = first + fraction * (second - first)
        return blend / np.linalg.norm(blend)
    angle = np.arccos(cosine)
    return (np.sin((1 - fraction) * angle) * first + np.sin(fraction * angle) * second) / np.sin(angle)

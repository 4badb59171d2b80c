"""Pairing of two streams of stamped messages by time, whichever of a pair comes first."""

from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 100  # messages of each stream that may wait; the oldest stamps are forgotten
JUMP_NS = 1_000_000_000  # further back than a late message: time itself jumped (a bag that loops)


class StampPairs(Generic[T]):
    """Pairing of each reference with the nearest other message, at most `tolerance_ns` away.

    Both `add_…` return the pairs (reference, other) that are new: a reference is paired again only with an other that
    is nearer in time. A jump back in time forgets everything before it.
    """

    def __init__(self, tolerance_ns: int = 0) -> None:
        self._tolerance = tolerance_ns
        self._references: dict[int, T] = {}
        self._others: dict[int, T] = {}
        self._distance: dict[int, int] = {}  # of a reference's best pair [ns]
        self._newest = 0

    def add_reference(self, stamp_ns: int, message: T) -> list[tuple[T, T]]:
        self._make_room(self._references, stamp_ns)
        self._references[stamp_ns] = message
        self._distance.pop(stamp_ns, None)
        nearest = min(self._others, key=lambda other: abs(other - stamp_ns), default=None)
        return [] if nearest is None else self._pair(stamp_ns, nearest)

    def add_other(self, stamp_ns: int, message: T) -> list[tuple[T, T]]:
        self._make_room(self._others, stamp_ns)
        self._others[stamp_ns] = message
        return [pair for reference in self._references for pair in self._pair(reference, stamp_ns)]

    def _pair(self, reference: int, other: int) -> list[tuple[T, T]]:
        away = abs(reference - other)
        if away > self._tolerance or away >= self._distance.get(reference, away + 1):
            return []
        self._distance[reference] = away
        return [(self._references[reference], self._others[other])]

    def _make_room(self, waiting: dict[int, T], stamp_ns: int) -> None:
        if stamp_ns < self._newest - JUMP_NS:
            self._references.clear()
            self._others.clear()
            self._distance.clear()
            self._newest = 0
        self._newest = max(self._newest, stamp_ns)
        if len(waiting) >= KEPT:
            oldest = min(waiting)
            del waiting[oldest]
            if waiting is self._references:
                self._distance.pop(oldest, None)

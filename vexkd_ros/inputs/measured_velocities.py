"""Velocities that a student publishes beside its detections, joined to them by stamp, whichever come first."""

import time
from collections.abc import Callable

import numpy as np

WAIT_S = 0.05  # longest wait of detections for their velocities
KEPT = 100  # velocities that may wait for their detections
SILENT = 10  # detections in a row without velocities: nobody publishes any


class MeasuredVelocities:
    """Velocities by stamp, and whether more of them are worth waiting for.

    They are where the last detections had theirs, or got them too late. So detections never wait where nothing
    comes, and one loss costs one wait. report: told once which velocities are used, and when that changes.
    """

    def __init__(
        self, topic: str, report: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._topic, self._report, self._clock = topic, report, clock
        self._found: dict[int, np.ndarray] = {}
        self._coming, self._used, self._missing = False, False, 0

    def add(self, stamp_ns: int, velocities: np.ndarray) -> None:
        """Keep vx and vy (M, 2) [m/s] of the detections that bear this stamp."""
        self._coming = True
        self._found[stamp_ns] = velocities
        if len(self._found) > KEPT:
            del self._found[next(iter(self._found))]

    def wait_s(self, stamp_ns: int, received_s: float) -> float:
        """Return how long detections that were received at `received_s` of the clock should still wait, 0 for not."""
        if not self._coming or stamp_ns in self._found:
            return 0.0
        return max(received_s + WAIT_S - self._clock(), 0.0)

    def take(self, stamp_ns: int, count: int) -> np.ndarray | None:
        """Return the velocities of the `count` detections that bear this stamp; None where there are none."""
        found = self._found.pop(stamp_ns, None)
        if found is None or len(found) != count:
            self._coming = False
            self._missing += 1
            if self._missing == SILENT:
                self._used = False
                self._report(f"no velocities on {self._topic}: they are found from positions alone")
            return None
        self._missing = 0
        if not self._used:
            self._used = True
            self._report(f"takes measured velocities from {self._topic}")
        return found

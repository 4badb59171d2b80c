"""Arrivals of one input: count, rate, age and silence."""

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 10.0  # of the rate


@dataclass
class InputWatch:
    """Arrivals of one input. Every time is time.monotonic(); first, newest: of arrivals, None before the first one."""

    started: float
    received: int = 0
    age_s: float = 0.0
    first: float | None = None
    newest: float | None = None
    _arrivals: deque[float] = field(default_factory=deque)

    def arrived(self, now: float, age_s: float) -> None:
        """Count an arrival; age_s: node clock − input stamp."""
        self.received += 1
        self.age_s, self.newest = age_s, now
        self.first = now if self.first is None else self.first
        self._arrivals.append(now)

    def rate(self, now: float) -> float:
        """Return the arrivals a second [Hz]."""
        while self._arrivals and self._arrivals[0] < now - WINDOW_S:
            self._arrivals.popleft()
        return len(self._arrivals) / max(min(now - self.started, WINDOW_S), 1e-3)

    def silent_s(self, now: float) -> float:
        """Return the seconds since the last arrival, or since the start where none came yet."""
        return now - (self.started if self.newest is None else self.newest)

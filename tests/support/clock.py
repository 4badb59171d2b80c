"""Time in tests: a clock to inject where code asks for the time, and waiting for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


class ManualClock:
    """Seconds that pass only when a test says so, in place of time.monotonic."""

    def __init__(self) -> None:
        self._now = 1000.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


def wait_for(condition: Callable[[], Found], what: str, timeout_s: float = 120.0) -> Found:
    """Return what the condition returns as soon as that is true; for processes and DDS, which tell no one.

    timeout_s: a loaded machine is slow; nothing here waits that long where all is well.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.01)
    return found

"""Hand-over from reception to inference: room for one input, and the newest wins."""

import threading
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class PendingInput(Generic[T]):
    """Input of one moment that waits for inference.

    payload: what its source makes a Frame of. received: time.monotonic() at reception. read_s: what reading the
    message took.
    """

    stamp_ns: int
    received: float
    read_s: float
    payload: T


class LatestSlot(Generic[T]):
    """Slot of one item. Putting never blocks; getting waits."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Store the item; True if it replaced one that nobody had got."""
        with self._changed:
            replaced, self._item = self._item is not None, item
            self._changed.notify()
        return replaced

    def get(self) -> T | None:
        """Wait for an item; None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            if self._closed:
                return None
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Wake whoever waits; an item that nobody has got is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

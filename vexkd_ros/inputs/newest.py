"""Hand-over from reception to inference: room for one, and the newest wins."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """A mailbox of one item. Giving never blocks; taking waits."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def give(self, item: T) -> bool:
        """True if the item replaced one that nobody had taken."""
        with self._changed:
            replaced, self._item = self._item is not None, item
            self._changed.notify()
        return replaced

    def take(self) -> T | None:
        """Wait for an item; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            if self._closed:
                return None
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Wake whoever waits; what has not been taken is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

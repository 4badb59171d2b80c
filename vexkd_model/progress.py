"""Progress display of long work: a bar on a terminal, plain lines in logs and CI."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
LINE_INTERVAL_S = 5.0


def progress(items: Iterable[T], description: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield `items`, showing how far the loop is on stderr.

    On a terminal this is a tqdm bar; elsewhere one plain line every few seconds and one at the end,
    because carriage returns make a log unreadable.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, total=total, unit=unit, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    count = 0
    for item in items:
        yield item
        count += 1
        now = time.monotonic()
        if now - last >= LINE_INTERVAL_S:
            last = now
            print(
                f"{description}: {count}/{total or '?'} {unit}, {count / (now - start):.1f} {unit}/s",
                file=sys.stderr,
                flush=True,
            )
    print(f"{description}: {count} {unit} in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)

"""Part of a bag: an open file or folder, whatever reads it. Needs no ROS."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

Message = tuple[Connection, int, bytes]  # of a bag: topic and type, log time [ns], content


@dataclass(frozen=True)
class Part:
    """Open part of a bag.

    start_time, end_time: log time [ns] of the first message, and just after that of the last one. messages: reads those
    of some connections. custom: what its writer added to the metadata. notes: what is lost or left out, a line each.
    """

    connections: list[Connection]
    message_count: int
    start_time: int
    end_time: int
    messages: Callable[[Collection[Connection]], Iterable[Message]]
    custom: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@contextmanager
def whole_part(path: Path) -> Iterator[Part]:
    """Open a folder with its metadata, or a file that its writer closed."""
    with Reader(path) as reader:
        yield Part(
            list(reader.connections),
            reader.message_count,
            reader.start_time,
            reader.end_time,
            reader.messages,
            reader.storage.metadata.custom or {} if path.is_dir() else {},
        )

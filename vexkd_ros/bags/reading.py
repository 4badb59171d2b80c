"""One reader for every tool: a bag's folder or files, a recording that was killed, a ROS 1 bag. Needs no ROS."""

import heapq
import struct
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path

from rosbags.interfaces import Connection, ConnectionExtRosbag1, Qos
from rosbags.rosbag2 import ReaderError

from vexkd_model.errors import UserError
from vexkd_ros.bags.part import Message, Part, whole_part
from vexkd_ros.bags.ros1_bag import ros1_part
from vexkd_ros.bags.torn_mcap import torn_part

MANIFEST = "manifest.json"  # of nuscenes_to_bag
METADATA = "metadata.yaml"  # written last: a bag without it was killed while it was recorded, or is a part of one
STORAGES = (".mcap", ".db3")
GAP_NS = 60 * 10**9  # in the log times; a longer one is a jump of the clock, or a pause
PAUSE_NS = 10**9  # counts in its place


class Bag:
    """Open bag. connections: its topics. custom: what its writer added to the metadata. notes: what is wrong with it or
    lost, a line each."""

    def __init__(self, path: Path, parts: Sequence[Part], notes: Sequence[str] = ()) -> None:
        self.path, self._parts = path, parts
        self.custom = parts[0].custom
        self.notes = [*notes, *(note for part in parts for note in part.notes)]
        self.connections = [connection for part in parts for connection in part.connections]
        full = [part for part in parts if part.message_count]
        self.message_count = sum(part.message_count for part in full)
        self.start_time = min((part.start_time for part in full), default=0)  # log time of the first message [ns]
        self.end_time = max((part.end_time for part in full), default=0)  # just after that of the last one

    @property
    def duration(self) -> int:
        """Return the nanoseconds of log time from the first message to the last."""
        return self.end_time - self.start_time

    def messages(self, connections: Collection[Connection] | None = None) -> Iterator[Message]:
        """Read the messages of some connections, by default of all, by log time."""
        wanted = self.connections if connections is None else list(connections)
        read = []
        for part in self._parts:
            chosen = [connection for connection in part.connections if connection in wanted]
            if chosen:
                read.append(part.messages(chosen))
        return iter(read[0]) if len(read) == 1 else heapq.merge(*read, key=lambda message: message[1])

    def paced(self, connections: Collection[Connection] | None = None) -> Iterator[tuple[int, Connection, int, bytes]]:
        """Read messages with their time [ns] since the first one, in which long gaps are shortened, and said."""
        elapsed, before = 0, None
        for connection, stamp, data in self.messages(connections):
            step = 0 if before is None else stamp - before
            if step > GAP_NS:
                print(
                    f"{self.path}: log times jump by {_span(step)} after {elapsed * 1e-9:.1f} s; taken as a pause of "
                    f"{PAUSE_NS * 1e-9:.0f} s",
                    file=sys.stderr,
                )
                step = PAUSE_NS
            elapsed += max(step, 0)
            before = stamp
            yield elapsed, connection, stamp, data


@contextmanager
def open_bag(path: Path, whole: bool = False) -> Iterator[Bag]:
    """Open a bag and say what is lost of it; UserError where nothing can be read.

    whole: UserError, too, where anything is lost.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such bag")
    with ExitStack() as opened:
        bag = _open(path, opened, whole)
        for note in bag.notes:
            _say(note)
        try:
            yield bag
        except ReaderError as error:
            raise UserError(f"{path}: damaged bag ({error})") from None


@cache
def _say(note: str) -> None:
    """Say a note once, however often a tool opens its bag."""
    print(note, file=sys.stderr)


def _open(path: Path, opened: ExitStack, whole: bool) -> Bag:
    if path.suffix == ".bag" and path.is_file():
        return Bag(path, [_enter(ros1_part, path, opened)])
    if path.is_dir() and is_complete(path):
        try:
            return Bag(path, [_enter(whole_part, path, opened)])
        except UserError:
            if whole:
                raise
        files = _files(path)
        notes = [f"{path}: {METADATA} and the files beside it do not agree; read file by file"]
    elif path.is_dir():
        files = _files(path)
        if whole:
            raise UserError(f"{path}: incomplete bag, {METADATA} is missing; its writing was interrupted, do it again")
        notes = [f"{path}: {METADATA} is missing, the recording was interrupted or the file is lost"]
    elif path.suffix in STORAGES:
        files, notes = [path], []
    else:
        raise UserError(f"{path}: not a bag; give its folder, or a file that ends in {', '.join(STORAGES)} or .bag")
    parts: list[Part] = []
    for file in files:
        try:
            parts.append(_enter_file(file, opened, whole))
        except UserError as error:
            notes.append(str(error))
    if not parts:
        raise UserError(notes[-1])
    return Bag(path, parts, notes)


def _enter_file(file: Path, opened: ExitStack, whole: bool) -> Part:
    try:
        return _enter(whole_part, file, opened)
    except UserError:
        if whole or file.suffix != ".mcap":
            raise
    return _enter(torn_part, file, opened)


def _enter(kind: Callable[[Path], AbstractContextManager[Part]], path: Path, opened: ExitStack) -> Part:
    """Open with one kind of reader; UserError where the file is damaged."""
    try:
        return opened.enter_context(kind(path))
    except Exception as error:  # rosbags tells most damage by ReaderError, the rest by whatever its parsers run into
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: damaged bag ({reason})") from None


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix in STORAGES)
    bags = [path.name for path in sorted(folder.iterdir()) if is_complete(path)]
    if not files and bags:
        raise UserError(f"{folder}: a folder of {len(bags)} bags; give {folder / bags[0]}, or {folder}/*")
    if not files:
        raise UserError(f"{folder}: incomplete bag, it holds no {' and no '.join(STORAGES)} file; copy it again")
    return files


def _span(nanoseconds: int) -> str:
    hours = nanoseconds / 3.6e12
    return f"{hours / 24:.0f} days" if hours > 48 else f"{hours:.1f} hours" if hours > 2 else f"{hours * 3600:.0f} s"


def recorded_qos(connection: Connection) -> list[Qos]:
    """List what the publishers of a topic offered, as far as it was recorded."""
    return [] if isinstance(connection.ext, ConnectionExtRosbag1) else connection.ext.offered_qos_profiles


def bag_paths(paths: Sequence[Path]) -> list[Path]:
    """Leave out the manifest that lies beside bags: `bags/*` on a command line names it, too."""
    return [path for path in map(Path, paths) if path.name != MANIFEST]


def is_complete(path: Path) -> bool:
    """Tell whether the bag was closed by its writer."""
    return (Path(path) / METADATA).is_file()


def header_stamp_ns(data: bytes, offset: int = 4) -> int:
    """Read the stamp [ns] of a serialised message, without decoding the rest, which takes a thousand times longer.

    offset: bytes before its std_msgs/Header, those of CDR's encapsulation with them. −1 where the message is too short.
    """
    if len(data) < offset + 8:
        return -1
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, offset)
    return seconds * 10**9 + nanoseconds

"""MCAP files whose writer was killed: their whole records, without the summary that closes a file. Needs no ROS.

Format: https://mcap.dev/spec, records of an opcode (1 byte), a length (8 bytes) and that many bytes.
"""

import io
import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType

from rosbags.interfaces import Connection
from rosbags.rosbag2.storage_mcap import McapReader

MAGIC = b"\x89MCAP0\r\n"
RECORD = struct.Struct("<BQ")
FOOTER = RECORD.pack(0x02, 20) + bytes(20) + MAGIC  # of a file without a summary


class TornMcap:
    """Reader of the whole records of a torn file. lost_bytes: what follows them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        end = _end_of_whole_records(path)
        self.lost_bytes = path.stat().st_size - end
        self._reader = McapReader(_ClosedFile(path, end))  # type: ignore[arg-type]  # all that it does is to open it

    def __enter__(self) -> "TornMcap":
        self._reader.open()
        self.connections, metadata = self._reader.connections, self._reader.metadata
        self.message_count, self.start_time, self.end_time = (
            metadata.message_count, metadata.start_time, metadata.end_time)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._reader.close()

    def messages(self, connections: Collection[Connection], start: int | None = None,
                 stop: int | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """Read messages in the order of the file, which without an index is all there is."""
        return self._reader.messages_scan(connections, start, stop)


def _end_of_whole_records(path: Path) -> int:
    """Return the offset after the last record that is all there."""
    size, end = path.stat().st_size, len(MAGIC)
    with path.open("rb") as file:
        while True:
            file.seek(end)
            head = file.read(RECORD.size)
            opcode, length = RECORD.unpack(head) if len(head) == RECORD.size else (0, 0)
            if not opcode or end + RECORD.size + length > size:  # no record begins with 0: space that was only reserved
                return end
            end += RECORD.size + length


class _ClosedFile:
    """Path of a file that opens as if it ended after `end` bytes with the footer of a file without a summary."""

    def __init__(self, path: Path, end: int) -> None:
        self._path, self._end = path, end

    def open(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_ClosedBytes(self._path.open(mode), self._end))  # type: ignore[arg-type]


class _ClosedBytes(io.RawIOBase):
    def __init__(self, file: io.BufferedReader, end: int) -> None:
        self._file, self._end, self._position = file, end, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end + len(FOOTER)}[whence]
        self._position = begin + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position < self._end:
            self._file.seek(self._position)
            data = self._file.read(min(len(buffer), self._end - self._position))
        else:
            data = FOOTER[self._position - self._end :][: len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()

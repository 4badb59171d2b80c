"""MCAP files whose writer was killed: their whole records, without the summary that closes a file. Needs no ROS.

Format: https://mcap.dev/spec, records of an opcode (1 byte), a length (8 bytes) and that many bytes.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosbags.rosbag2.storage_mcap import McapReader

from vexkd_ros.bags.part import Part

MAGIC = b"\x89MCAP0\r\n"
RECORD = struct.Struct("<BQ")
FOOTER = RECORD.pack(0x02, 20) + bytes(20) + MAGIC  # of a file without a summary


@contextmanager
def torn_part(path: Path) -> Iterator[Part]:
    """Open the whole records of a torn file; without an index, messages come in the order of the file."""
    end = _end_of_whole_records(path)
    reader = McapReader(_ClosedFile(path, end))  # type: ignore[arg-type]  # all that it does is to open it
    reader.open()
    try:
        metadata, lost = reader.metadata, path.stat().st_size - end
        yield Part(
            list(reader.connections),
            metadata.message_count,
            metadata.start_time,
            metadata.end_time,
            reader.messages_scan,
            notes=[f"{path}: ends within a record; its last {lost} bytes are lost"],
        )
    finally:
        reader.close()


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

"""Opening bags, with errors a user can act on."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosbags.rosbag2 import Reader, ReaderError

from vexkd_model.errors import UserError


@contextmanager
def open_bag(path: Path) -> Iterator[Reader]:
    """An open reader of the bag folder `path`; UserError where it is absent, incomplete or damaged."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such bag")
    if not is_complete(path):
        raise UserError(f"{path}: incomplete bag, metadata.yaml is missing; its recording was interrupted, do it again")
    try:
        with Reader(path) as reader:
            yield reader
    except ReaderError as error:
        raise UserError(f"{path}: damaged bag ({error})") from None


def is_complete(path: Path) -> bool:
    """Whether the bag was closed by its writer, which writes metadata.yaml last."""
    return (Path(path) / "metadata.yaml").is_file()


def header_stamp_ns(data: bytes, offset: int = 4) -> int:
    """Stamp [ns] of a serialised message, without decoding the rest, which takes a thousand times longer.

    offset: bytes before its std_msgs/Header, those of CDR's encapsulation with them. −1 where the message is too short.
    """
    if len(data) < offset + 8:
        return -1
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, offset)
    return seconds * 10**9 + nanoseconds

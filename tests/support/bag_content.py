"""A bag's messages by an independent reader."""

from pathlib import Path

from rosbags.highlevel import AnyReader


def messages_of(bag: Path) -> dict[str, list[tuple[int, object]]]:
    """(log time, message) by topic, read with the definitions that the bag itself carries."""
    found: dict[str, list[tuple[int, object]]] = {}
    with AnyReader([bag]) as reader:
        for connection, stamp, data in reader.messages():
            found.setdefault(connection.topic, []).append((stamp, reader.deserialize(data, connection.msgtype)))
    return found


def stamp_of(header: object) -> int:
    """Nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec

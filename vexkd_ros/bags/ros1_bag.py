"""ROS 1 bags, read as if they were of ROS 2: types by their new names, messages as CDR. Needs no ROS."""

from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType

from rosbags.convert.converter import STATIC_MSGTYPE_RENAMES, is_same_wireformat, migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, ConnectionExtRosbag1, ConnectionExtRosbag2

from vexkd_ros.bags.typestore import bag_typestore, learn_type
from vexkd_ros.bags.writing import LATCHED


class Ros1Bag:
    """Reader of a ROS 1 bag. notes: which topics are left out, as their types are not installed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = AnyReader([path])
        self.notes: list[str] = []

    def __enter__(self) -> "Ros1Bag":
        self._reader.open()
        unknown: dict[str, str] = {}
        self._sources: dict[int, Connection] = {}
        self.connections: list[Connection] = []
        for source in self._reader.connections:
            msgtype = STATIC_MSGTYPE_RENAMES.get(source.msgtype, source.msgtype)
            if not learn_type(msgtype, bag_typestore()):
                unknown[source.topic] = msgtype
                continue
            latched = isinstance(source.ext, ConnectionExtRosbag1) and source.ext.latching
            self._sources[source.id] = source
            self.connections.append(source._replace(
                msgtype=msgtype, digest="", owner=self, ext=ConnectionExtRosbag2("cdr", [LATCHED] if latched else [])))
        self.message_count = sum(connection.msgcount for connection in self.connections)
        self.start_time, self.end_time = self._reader.start_time, self._reader.end_time
        self.notes = [f"{self._path}: {topic} is left out, its type {msgtype} is not installed"
                      for topic, msgtype in unknown.items()]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._reader.close()

    def messages(self, connections: Collection[Connection], start: int | None = None,
                 stop: int | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """Read messages, each in ROS 2's form."""
        store, old, cache = bag_typestore(), self._reader.typestore, {}
        known = {connection.id: connection for connection in connections}
        same = {number: is_same_wireformat(old, store, self._sources[number].msgtype, connection.msgtype)
                for number, connection in known.items()}
        for source, stamp, data in self._reader.messages([self._sources[number] for number in known], start, stop):
            msgtype = known[source.id].msgtype
            if same[source.id]:
                converted = store.ros1_to_cdr(data, msgtype)
            else:
                converted = migrate_bytes(old, store, source.msgtype, msgtype, cache, data, src_is2=False, dst_is2=True)
            yield known[source.id], stamp, bytes(converted)

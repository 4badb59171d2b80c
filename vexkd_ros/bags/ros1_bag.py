"""ROS 1 bags, read as if they were of ROS 2: types by their new names, messages as CDR. Needs no ROS."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from rosbags.convert.converter import STATIC_MSGTYPE_RENAMES, is_same_wireformat, migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, ConnectionExtRosbag1, ConnectionExtRosbag2

from vexkd_ros.bags.part import Message, Part
from vexkd_ros.bags.typestore import bag_typestore, learn_type
from vexkd_ros.bags.writing import LATCHED


@contextmanager
def ros1_part(path: Path) -> Iterator[Part]:
    """Open a ROS 1 bag; topics whose types are not installed are left out."""
    with AnyReader([path]) as reader:
        known, sources, notes = [], {}, []
        for source in reader.connections:
            msgtype = STATIC_MSGTYPE_RENAMES.get(source.msgtype, source.msgtype)
            if not learn_type(msgtype, bag_typestore()):
                notes.append(f"{path}: {source.topic} is left out, its type {msgtype} is not installed")
                continue
            latched = isinstance(source.ext, ConnectionExtRosbag1) and source.ext.latching
            sources[source.id] = source
            known.append(
                source._replace(
                    msgtype=msgtype, digest="", ext=ConnectionExtRosbag2("cdr", [LATCHED] if latched else [])
                )
            )
        yield Part(
            known,
            sum(connection.msgcount for connection in known),
            reader.start_time,
            reader.end_time,
            lambda connections: _converted(reader, sources, connections),
            notes=list(dict.fromkeys(notes)),
        )


def _converted(
    reader: AnyReader, sources: dict[int, Connection], connections: Collection[Connection]
) -> Iterator[Message]:
    """Read messages, each in ROS 2's form. sources: connections of the bag itself, by number."""
    store, old, cache = bag_typestore(), reader.typestore, {}
    known = {connection.id: connection for connection in connections}
    same = {
        number: is_same_wireformat(old, store, sources[number].msgtype, connection.msgtype)
        for number, connection in known.items()
    }
    for source, stamp, data in reader.messages([sources[number] for number in known]):
        msgtype = known[source.id].msgtype
        if same[source.id]:
            converted = store.ros1_to_cdr(data, msgtype)
        else:
            converted = migrate_bytes(old, store, source.msgtype, msgtype, cache, data, src_is2=False, dst_is2=True)
        yield known[source.id], stamp, bytes(converted)

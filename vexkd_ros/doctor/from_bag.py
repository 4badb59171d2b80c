"""Observation of a bag. Needs no ROS."""

from functools import partial
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, QosDurability, QosReliability

from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_ros.bags.reading import open_bag, recorded_qos
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.doctor.observation import SENSORS, TF, Heard, Observation
from vexkd_ros.health.qos_match import QosOffer

UNKNOWN_DEPTH = 10  # of rosbag2's player, for a history that was not recorded


def observe_bag(bag: Path, seconds: float, tf: str) -> Observation:
    """Read the first `seconds` of a bag; UserError where it cannot be read. tf: topic of transforms, /tf."""
    store = bag_typestore()
    with open_bag(bag) as reader:
        if not reader.message_count:
            raise UserError(f"{bag}: holds no messages; record it again")
        seen = Observation(str(bag), min(seconds, reader.duration * 1e-9), live=False, notes=list(reader.notes))
        for connection in reader.connections:
            seen.types[connection.topic] = connection.msgtype
            seen.offers.setdefault(connection.topic, []).extend(_offers(connection))
            if connection.msgtype in SENSORS:
                seen.heard.setdefault(
                    connection.topic,
                    Heard(
                        connection.topic,
                        connection.msgtype,
                        partial(store.deserialize_cdr, typename=connection.msgtype),
                    ),
                )
        static, static_messages = f"{tf}_static", []
        wanted = [
            connection
            for connection in reader.connections
            if connection.msgtype in SENSORS or (connection.msgtype == TF and connection.topic in (tf, static))
        ]
        for passed, connection, stamp, data in progress(
            reader.paced(wanted), f"read {Path(bag).name}", unit="messages"
        ):
            if passed > seconds * 1e9:
                break
            if connection.msgtype == TF:
                try:
                    message = store.deserialize_cdr(data, TF)
                except Exception as error:  # rosbags' parsers run into whatever is damaged
                    reason = f"a message is no TFMessage ({type(error).__name__}); mend who publishes it"
                    seen.refuse_transforms(reason, reason)
                    continue
                seen.take_transforms(message, static=connection.topic == static)
                static_messages += [message] if connection.topic == static else []
            else:
                seen.heard[connection.topic].note(stamp * 1e-9, data)
        seen.static_lost = [
            frame
            for connection in wanted
            if connection.topic == static
            for frame in _lost_in_replay(connection, static_messages)
        ]
    return seen


def _lost_in_replay(connection: Connection, messages: list[Any]) -> list[str]:
    """Return the child frames that `ros2 bag play` does not give to a node that starts after it.

    A replay has one publisher, and it repeats as many latched messages as the recorded history holds.
    """
    profiles = recorded_qos(connection)
    depth = max((profile.depth or UNKNOWN_DEPTH for profile in profiles), default=0)  # 0: Humble's for an unknown one
    frames = [{transform.child_frame_id for transform in message.transforms} for message in messages]
    return sorted(set().union(*frames) - set().union(*frames[len(frames) - min(depth, len(frames)) :]))


def _offers(connection: Connection) -> list[QosOffer]:
    profiles = recorded_qos(connection)
    return [
        QosOffer(
            "the bag",
            connection.msgtype,
            profile.reliability is not QosReliability.BEST_EFFORT,
            profile.durability is QosDurability.TRANSIENT_LOCAL,
        )
        for profile in profiles
    ]

"""A bag → what there is in it to observe. Needs no ROS."""

from functools import partial
from pathlib import Path

from rosbags.interfaces import Connection, QosDurability, QosReliability

from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.doctor.observation import SENSORS, TF, Heard, Observation
from vexkd_ros.health.qos_match import QosOffer


def observe_bag(bag: Path, seconds: float) -> Observation:
    """The first `seconds` of a bag. UserError where it cannot be read."""
    store = bag_typestore()
    with open_bag(bag) as reader:
        if not reader.message_count:
            raise UserError(f"{bag}: holds no messages; record it again")
        seen = Observation(str(bag), min(seconds, reader.duration * 1e-9), live=False)
        for connection in reader.connections:
            seen.types[connection.topic] = connection.msgtype
            seen.offers.setdefault(connection.topic, []).extend(_offers(connection))
            if connection.msgtype in SENSORS:
                seen.heard.setdefault(connection.topic, Heard(
                    connection.topic, connection.msgtype, partial(store.deserialize_cdr, typename=connection.msgtype)))
        wanted = [connection for connection in reader.connections if connection.msgtype in (*SENSORS, TF)]
        messages = reader.messages(wanted, stop=reader.start_time + round(seconds * 1e9) + 1)
        for connection, stamp, data in progress(messages, f"read {Path(bag).name}", unit="messages"):
            if connection.msgtype == TF:
                seen.take_transforms(store.deserialize_cdr(data, TF), static=connection.topic.endswith("tf_static"))
            else:
                seen.heard[connection.topic].take(stamp * 1e-9, data)
    return seen


def _offers(connection: Connection) -> list[QosOffer]:
    profiles = connection.ext.offered_qos_profiles
    return [QosOffer("the bag", connection.msgtype, profile.reliability is not QosReliability.BEST_EFFORT,
                  profile.durability is QosDurability.TRANSIENT_LOCAL) for profile in profiles]

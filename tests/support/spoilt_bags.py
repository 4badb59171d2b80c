"""Copies of bags with faults put into them, message by message."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rosbags.interfaces import Qos
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.bags.writing import STREAM


def rewritten(
    bag: Path,
    out: Path,
    change: Callable[[str, object], object] = lambda topic, message: message,
    quality: Callable[[str, Qos], Qos] = lambda topic, qos: qos,
    added: list[tuple[str, str, int, object]] = (),
) -> Path:
    """The bag with every message changed, or left out where that is None."""
    store = bag_typestore()
    with Reader(bag) as reader, Writer(out, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for connection in reader.connections:
            profiles = [quality(connection.topic, qos) for qos in connection.ext.offered_qos_profiles]
            connections[connection.topic] = writer.add_connection(
                connection.topic, connection.msgtype, typestore=store, offered_qos_profiles=profiles
            )
        for topic, msgtype, _, _ in added:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, msgtype, typestore=store, offered_qos_profiles=[STREAM]
                )
        messages = [
            (stamp, connection.topic, store.deserialize_cdr(data, connection.msgtype), connection.msgtype)
            for connection, stamp, data in reader.messages()
        ]
        messages += [(stamp, topic, message, msgtype) for topic, msgtype, stamp, message in added]
        for stamp, topic, message, msgtype in sorted(messages, key=lambda one: one[0]):
            if (message := change(topic, message)) is not None:
                writer.write(connections[topic], stamp, store.serialize_cdr(message, msgtype))
    return out


def of(topic: str, change: Callable[[object], object]) -> Callable[[str, object], object]:
    return lambda name, message: change(message) if name == topic else message


def points_changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[str, object], object]:
    """change: of a structured array with x, y, z, intensity and ring."""

    def apply(message: object) -> object:
        dtype = np.dtype([(name, "<f4") for name in ("x", "y", "z", "intensity")] + [("ring", "<u2")])
        points = change(message.data.view(dtype).copy())
        message.data, message.width, message.row_step = points.view(np.uint8), len(points), points.nbytes
        return message

    return of("/lidar/points", apply)


def dimmed(points: np.ndarray) -> np.ndarray:
    points["intensity"] /= 255
    return points


def without_transforms(frames: set[str]) -> Callable[[str, object], object]:
    def change(topic: str, message: object) -> object:
        if topic in ("/tf", "/tf_static"):
            message.transforms = [one for one in message.transforms if one.child_frame_id not in frames]
        return message

    return change


def renamed(message: object) -> object:
    next(field for field in message.fields if field.name == "intensity").name = "reflectivity"
    return message


def unstamped(message: object) -> object:
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return message


def nameless(message: object) -> object:
    message.header.frame_id = ""
    return message


def vars_of(qos: Qos) -> dict:
    return qos._asdict() if hasattr(qos, "_asdict") else {name: getattr(qos, name) for name in qos.__dataclass_fields__}


def wide(message: object) -> object:
    message.k, message.p = (matrix * np.where(matrix == matrix[0], 0.5, 1) for matrix in (message.k, message.p))
    return message


def of_four_to_three(message: object) -> object:
    message.height = message.width * 3 // 4
    return message


def black(message: object) -> object:
    image = cv2.imdecode(message.data, cv2.IMREAD_COLOR)
    message.data = cv2.imencode(".jpg", np.zeros_like(image))[1].ravel()
    return message


def truncated(message: object) -> object:
    message.data = message.data[: len(message.data) // 2]
    return message


def later(message: object) -> object:
    message.header.stamp.nanosec += 200_000_000
    message.header.stamp.sec += message.header.stamp.nanosec // 10**9
    message.header.stamp.nanosec %= 10**9
    return message

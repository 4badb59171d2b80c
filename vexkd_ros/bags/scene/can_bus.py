"""CAN bus expansion: the vehicle's IMU, its own odometry, and its other messages as numbers by name."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from vexkd_model.errors import UserError
from vexkd_ros.bags.scene.messages import header, vector
from vexkd_ros.bags.scene.poses import odometry_message
from vexkd_ros.bags.scene.selection import CAN_MESSAGES
from vexkd_ros.bags.scene.tables import Pose, SceneRecord
from vexkd_ros.bags.scene.topics import CAN_ODOMETRY, IMU, Due, can_topic
from vexkd_ros.bags.typestore import message_type

UNKNOWN = np.zeros(9)


def can_bus_folder(dataroot: Path) -> Path:
    """Return the folder of the expansion, which need not be there."""
    return dataroot / "can_bus"


def can_bus_messages(scene: SceneRecord) -> Iterator[Due]:
    """Yield /imu, /can_bus/pose and /can_bus/<message> of a scene.

    Nothing of files that are not there: 21 scenes of nuScenes have none.
    """
    yield from (Due(stamp, IMU, partial(_imu, record, stamp)) for stamp, record in _records(scene, "ms_imu"))
    yield from (Due(stamp, CAN_ODOMETRY, partial(_pose, record, stamp)) for stamp, record in _records(scene, "pose"))
    for name in CAN_MESSAGES:
        topic = can_topic(name)
        yield from (
            Due(stamp, topic, partial(_numbers, name, record, stamp)) for stamp, record in _records(scene, name)
        )


def _records(scene: SceneRecord, name: str) -> list[tuple[int, dict]]:
    """Read (stamp [ns], record) of a message of a scene."""
    path = can_bus_folder(scene.dataroot) / f"{scene.name}_{name}.json"
    if not path.is_file():
        return []
    try:
        return [(int(record["utime"]) * 1000, record) for record in json.loads(path.read_text())]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a CAN bus file ({error}); unpack the expansion again") from None


def _imu(record: dict, stamp_ns: int) -> object:
    """Make an Imu in the IMU's own frame, to which no transform leads: nuScenes does not tell its mounting."""
    w, x, y, z = map(float, record["q"])
    orientation = message_type("geometry_msgs/msg/Quaternion")(x, y, z, w)
    return message_type(IMU.msgtype)(
        header(stamp_ns, "imu"),
        orientation,
        UNKNOWN,
        vector(record["rotation_rate"]),
        UNKNOWN,
        vector(record["linear_accel"]),
        UNKNOWN,
    )


def _pose(record: dict, stamp_ns: int) -> object:
    """Make an Odometry of the vehicle's own pose and velocity, 50 Hz."""
    odom_from_base = Pose(tuple(record["pos"]), tuple(record["orientation"]))
    return odometry_message(stamp_ns, odom_from_base, record["vel"], record["rotation_rate"])


def _numbers(name: str, record: dict, stamp_ns: int) -> object:
    pair = message_type("diagnostic_msgs/msg/KeyValue")
    values = [pair(key, str(value)) for key, value in record.items() if key != "utime"]
    status = message_type("diagnostic_msgs/msg/DiagnosticStatus")(0, f"can_bus: {name}", "", "", values)
    return message_type("diagnostic_msgs/msg/DiagnosticArray")(header(stamp_ns, ""), [status])

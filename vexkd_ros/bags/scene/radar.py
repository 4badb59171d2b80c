"""Radar returns as PointCloud2 with every field that the file has, in its own datatype."""

import math
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from vexkd_model.errors import UserError
from vexkd_ros.bags.scene.geometry import header
from vexkd_ros.bags.scene.tables import Capture
from vexkd_ros.bags.scene.topics import Due, radar_topic
from vexkd_ros.bags.typestore import message_type

# (TYPE, SIZE) of the Point Cloud Library's files → sensor_msgs/PointField's datatype
FIELD_TYPE = {("I", 1): 1, ("U", 1): 2, ("I", 2): 3, ("U", 2): 4, ("I", 4): 5, ("U", 4): 6, ("F", 4): 7, ("F", 8): 8}


def radar_messages(channel: str, captures: tuple[Capture, ...]) -> Iterator[Due]:
    """The returns of RADAR_FRONT on /radar_front/points, none filtered out."""
    topic, frame = radar_topic(channel), channel.lower()
    return (Due(capture.stamp_ns, topic, partial(radar_cloud, capture.path, capture.stamp_ns, frame))
            for capture in captures)


def radar_cloud(path: Path, stamp_ns: int, frame: str) -> object:
    """A binary `.pcd` as PointCloud2: in nuScenes 18 fields in 43 bytes a return, x forward, y left [m]; vx_comp and
    vy_comp are velocities [m/s] less the vehicle's own.

    UserError names a file that is damaged. A first return without a position is how nuScenes writes an empty cloud.
    """
    try:
        told, _, data = path.read_bytes().partition(b"\nDATA binary\n")
        values = dict(line.split(" ", 1) for line in told.decode("ascii").split("\n") if line[:1] not in ("", "#"))
        columns = [values[key].split() for key in ("FIELDS", "TYPE", "SIZE", "COUNT")]
        fields, step = _fields(list(zip(*columns, strict=True)))
        count = int(values["POINTS"])
        if not data and count:
            raise ValueError("not binary, or cut short")
    except OSError as error:
        raise UserError(f"{path}: radar file cannot be read ({error.strerror}); complete the download") from None
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not a binary PCD file ({error}); download it again") from None
    if len(data) < count * step:
        raise UserError(f"{path}: truncated radar file, {count} returns need {count * step} bytes; download it again")
    if count and fields[0].datatype == 7 and math.isnan(struct.unpack_from("<f", data)[0]):
        count = 0
    return message_type("sensor_msgs/msg/PointCloud2")(
        header=header(stamp_ns, frame), height=1, width=count, fields=fields, is_bigendian=False, point_step=step,
        row_step=count * step, data=np.frombuffer(data, np.uint8, count * step), is_dense=True)


def _fields(columns: list[tuple[str, str, str, str]]) -> tuple[list, int]:
    """PointFields of a file's columns (name, type, size, count), one directly after the other; bytes a return."""
    fields, offset = [], 0
    for name, kind, size, count in columns:
        fields.append(message_type("sensor_msgs/msg/PointField")(
            name, offset, FIELD_TYPE[kind, int(size)], int(count)))
        offset += int(size) * int(count)
    return fields, offset

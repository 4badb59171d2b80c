"""LiDAR sweeps as PointCloud2."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from vexkd_model.data.sweeps import read_lidar_file
from vexkd_ros.bags.scene.geometry import header
from vexkd_ros.bags.scene.tables import Capture
from vexkd_ros.bags.scene.topics import POINTS, Due
from vexkd_ros.bags.typestore import message_type

RECORD = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2")])
STORED, SENT = (np.dtype([("xyzi", "V16"), ("ring", ring)]) for ring in ("<f4", "<u2"))  # x, y, z, intensity as one
FIELD_TYPE = {"<f4": 7, "<u2": 4}  # sensor_msgs/PointField FLOAT32, UINT16


def lidar_messages(captures: tuple[Capture, ...]) -> Iterator[Due]:
    """The sweeps on /lidar/points."""
    return (Due(capture.stamp_ns, POINTS, partial(point_cloud, capture.path, capture.stamp_ns)) for capture in captures)


def point_cloud(path: Path, stamp_ns: int) -> object:
    """A nuScenes `.pcd.bin` (float32 x, y, z, intensity 0 … 255, ring) as PointCloud2 in the frame lidar_top."""
    values = read_lidar_file(path)
    stored, records = values.reshape(-1).view(STORED), np.empty(len(values), SENT)
    records["xyzi"], records["ring"] = stored["xyzi"], stored["ring"]
    field = message_type("sensor_msgs/msg/PointField")
    fields = [field(name, offset, FIELD_TYPE[dtype.str], 1) for name, (dtype, offset) in RECORD.fields.items()]
    return message_type(POINTS.msgtype)(
        header=header(stamp_ns, "lidar_top"), height=1, width=len(records), fields=fields, is_bigendian=False,
        point_step=RECORD.itemsize, row_step=RECORD.itemsize * len(records), data=records.view(np.uint8),
        is_dense=bool(np.isfinite(values).all()))

"""Messages of the vehicle around a node in tests, and what a DiagnosticStatus says."""

from array import array
from collections.abc import Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from sensor_msgs.msg import PointCloud2, PointField
from tf2_msgs.msg import TFMessage

SECOND = 10**9


def values(status: DiagnosticStatus) -> dict[str, str]:
    """Return its key-value pairs."""
    return {item.key: item.value for item in status.values}


def transforms_message(transforms: list[tuple[str, str, int, tuple, tuple]]) -> TFMessage:
    """(parent, child, stamp [ns], translation, quaternion w x y z) each."""
    message = TFMessage()
    for parent, child, stamp_ns, (x, y, z), (qw, qx, qy, qz) in transforms:
        stamped = TransformStamped(child_frame_id=child)
        stamped.header.frame_id = parent
        stamped.header.stamp.sec, stamped.header.stamp.nanosec = divmod(stamp_ns, SECOND)
        stamped.transform.translation = Vector3(x=float(x), y=float(y), z=float(z))
        stamped.transform.rotation = Quaternion(w=float(qw), x=float(qx), y=float(qy), z=float(qz))
        message.transforms.append(stamped)
    return message


def cloud_message(
    points: np.ndarray,
    names: Sequence[str] = ("x", "y", "z", "intensity"),
    kind: str = "<f4",
    rows: int = 1,
    row_padding: int = 0,
    offset: int = 0,
) -> PointCloud2:
    """points (N, len(names)) in the frame lidar_top; every field of the numpy type `kind`, the first at `offset`."""
    dtype = np.dtype(kind)
    codes = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    step = offset + dtype.itemsize * len(names)
    fields = [
        PointField(name=name, offset=offset + dtype.itemsize * i, datatype=codes[dtype.str[1:]], count=1)
        for i, name in enumerate(names)
    ]
    records = np.zeros((len(points), step), np.uint8)
    records[:, offset:] = np.ascontiguousarray(points, dtype).view(np.uint8)
    width = len(points) // rows
    padded = np.full((rows, width * step + row_padding), 0xAB, np.uint8)
    padded[:, : width * step] = records.reshape(rows, width * step)
    message = PointCloud2(
        height=rows,
        width=width,
        fields=fields,
        is_bigendian=dtype.str[0] == ">",
        point_step=step,
        row_step=padded.shape[1],
        data=array("B", padded.tobytes()),
    )
    message.header.frame_id = "lidar_top"
    return message

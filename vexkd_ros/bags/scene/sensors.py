"""Sensor data: LiDAR and radar as PointCloud2, camera images as CompressedImage with their CameraInfo."""

import math
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from vexkd_model.data.sweeps import read_lidar_file
from vexkd_model.errors import UserError
from vexkd_ros.bags.scene.messages import header
from vexkd_ros.bags.scene.tables import Capture
from vexkd_ros.bags.scene.topics import POINTS, Due, camera_info_topic, image_topic, radar_topic
from vexkd_ros.bags.typestore import message_type

# --- LiDAR ------------------------------------------------------------------------------------------------

FLOAT32, UINT16 = 7, 4  # sensor_msgs/PointField
POINT_FIELDS = (
    ("x", 0, FLOAT32),
    ("y", 4, FLOAT32),
    ("z", 8, FLOAT32),
    ("intensity", 12, FLOAT32),
    ("ring", 16, UINT16),
)
STORED, SENT = (np.dtype([("xyzi", "V16"), ("ring", ring)]) for ring in ("<f4", "<u2"))  # x, y, z, intensity as one


def lidar_messages(captures: tuple[Capture, ...]) -> Iterator[Due]:
    """Yield the sweeps on /lidar/points."""
    return (Due(capture.stamp_ns, POINTS, partial(point_cloud, capture.path, capture.stamp_ns)) for capture in captures)


def point_cloud(path: Path, stamp_ns: int) -> object:
    """Read a nuScenes `.pcd.bin` (float32 x, y, z, intensity 0 … 255, ring) as PointCloud2 in lidar_top."""
    values = read_lidar_file(path)
    stored, records = values.reshape(-1).view(STORED), np.empty(len(values), SENT)
    records["xyzi"], records["ring"] = stored["xyzi"], stored["ring"]
    field = message_type("sensor_msgs/msg/PointField")
    fields = [field(name, offset, datatype, 1) for name, offset, datatype in POINT_FIELDS]
    return message_type(POINTS.msgtype)(
        header=header(stamp_ns, "lidar_top"),
        height=1,
        width=len(records),
        fields=fields,
        is_bigendian=False,
        point_step=SENT.itemsize,
        row_step=SENT.itemsize * len(records),
        data=records.view(np.uint8),
        is_dense=bool(np.isfinite(values).all()),
    )


# --- Radar ------------------------------------------------------------------------------------------------

# (TYPE, SIZE) of the Point Cloud Library's files → sensor_msgs/PointField's datatype
PCD_FIELD_TYPE = {
    ("I", 1): 1,
    ("U", 1): 2,
    ("I", 2): 3,
    ("U", 2): 4,
    ("I", 4): 5,
    ("U", 4): 6,
    ("F", 4): 7,
    ("F", 8): 8,
}


def radar_messages(channel: str, captures: tuple[Capture, ...]) -> Iterator[Due]:
    """Yield the returns of RADAR_FRONT on /radar_front/points, none filtered out."""
    topic, frame = radar_topic(channel), channel.lower()
    return (
        Due(capture.stamp_ns, topic, partial(radar_cloud, capture.path, capture.stamp_ns, frame))
        for capture in captures
    )


def radar_cloud(path: Path, stamp_ns: int, frame: str) -> object:
    """Read a binary `.pcd` as PointCloud2.

    In nuScenes 18 fields in 43 bytes a return, x forward, y left [m]; vx_comp and vy_comp are velocities [m/s] less the
    vehicle's own. A first return without a position is how nuScenes writes an empty cloud. UserError names a file that
    is damaged.
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
        header=header(stamp_ns, frame),
        height=1,
        width=count,
        fields=fields,
        is_bigendian=False,
        point_step=step,
        row_step=count * step,
        data=np.frombuffer(data, np.uint8, count * step),
        is_dense=True,
    )


def _fields(columns: list[tuple[str, str, str, str]]) -> tuple[list, int]:
    """Make PointFields of a file's columns (name, type, size, count), without gaps; return them and bytes a return."""
    fields, offset = [], 0
    for name, kind, size, count in columns:
        fields.append(
            message_type("sensor_msgs/msg/PointField")(name, offset, PCD_FIELD_TYPE[kind, int(size)], int(count))
        )
        offset += int(size) * int(count)
    return fields, offset


# --- Cameras ------------------------------------------------------------------------------------------------

NO_DISTORTION = np.zeros(5)  # nuScenes' images are rectified


def camera_messages(channel: str, captures: tuple[Capture, ...]) -> Iterator[Due]:
    """Yield the images of CAM_FRONT on /cam_front/image/compressed, and /cam_front/camera_info at their stamps."""
    frame, images, infos = channel.lower(), image_topic(channel), camera_info_topic(channel)
    for capture in captures:
        yield Due(capture.stamp_ns, infos, partial(camera_info, capture, frame))
        yield Due(capture.stamp_ns, images, partial(compressed_image, capture, frame))


def compressed_image(capture: Capture, frame: str) -> object:
    """Read the file as it is; nothing is decoded. UserError names a file that cannot be read or is empty."""
    try:
        data = np.fromfile(capture.path, np.uint8)
    except OSError as error:
        raise UserError(f"{capture.path}: image cannot be read ({error.strerror}); complete the download") from None
    if not len(data):
        raise UserError(f"{capture.path}: empty image; download it again")
    suffix = capture.path.suffix.lower().lstrip(".")
    return message_type("sensor_msgs/msg/CompressedImage")(
        header(capture.stamp_ns, frame), "jpeg" if suffix == "jpg" else suffix, data
    )


def camera_info(capture: Capture, frame: str) -> object:
    """Make the CameraInfo of a pinhole without distortion; z of the frame is along the view."""
    intrinsics = np.array(capture.intrinsics, np.float64)
    projection = np.column_stack([intrinsics.reshape(3, 3), np.zeros(3)])
    width, height = capture.size
    return message_type("sensor_msgs/msg/CameraInfo")(
        header(capture.stamp_ns, frame),
        height,
        width,
        "plumb_bob",
        NO_DISTORTION,
        intrinsics,
        np.eye(3).ravel(),
        projection.ravel(),
        0,
        0,
        message_type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False),
    )

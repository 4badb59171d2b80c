"""Poses of the vehicle and its sensors: /tf, /tf_static, /odom and /gps."""

import math
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from nuscenes.scripts.export_poses import REFERENCE_COORDINATES, get_coordinate

from vexkd_model.geometry.transforms import inverse
from vexkd_ros.bags.scene.messages import UNKNOWN_COVARIANCE, header, pose, rotation_vector, transform, vector
from vexkd_ros.bags.scene.tables import Capture, Pose, SceneRecord
from vexkd_ros.bags.scene.topics import GPS, ODOMETRY, TF, TF_STATIC, Due
from vexkd_ros.bags.typestore import message_type


def static_transforms(scene: SceneRecord, stamp_ns: int) -> Iterator[Due]:
    """Yield base_link → every sensor, once, latched."""
    mounts = {channel.lower(): captures[0].base_from_sensor for channel, captures in scene.sensors.items()}
    yield Due(
        stamp_ns,
        TF_STATIC,
        lambda: message_type(TF_STATIC.msgtype)(
            [transform(stamp_ns, "base_link", frame, mount) for frame, mount in mounts.items()]
        ),
    )


def ego_transforms(scene: SceneRecord) -> Iterator[Due]:
    """Yield odom → base_link at the stamp of every capture of every sensor.

    Interpolating between keyframes alone, half a second apart, would misplace sweeps.
    """
    poses = {capture.stamp_ns: capture.odom_from_base for captures in scene.sensors.values() for capture in captures}
    poses |= {capture.stamp_ns: capture.odom_from_base for capture in scene.lidar}
    return (Due(stamp, TF, partial(_ego_transform, stamp, odom_from_base)) for stamp, odom_from_base in poses.items())


def odometry(captures: tuple[Capture, ...]) -> Iterator[Due]:
    """Yield the ego pose at each LiDAR sweep, with the velocity between its neighbours."""
    poses = {capture.stamp_ns: capture.odom_from_base for capture in captures}
    stamps = sorted(poses)
    return (Due(stamp, ODOMETRY, partial(_odometry, stamps, poses, i)) for i, stamp in enumerate(stamps))


def positions_on_earth(location: str, captures: tuple[Capture, ...]) -> Iterator[Due]:
    """Yield latitude and longitude at each sweep, where the devkit knows those of the map's origin; altitude is NaN.

    Derived from the ego pose, as the devkit's export_poses does it, on a sphere: nuScenes has no receiver's data.
    """
    if location in REFERENCE_COORDINATES:
        for capture in captures:
            yield Due(capture.stamp_ns, GPS, partial(_position, location, capture))


def _ego_transform(stamp_ns: int, odom_from_base: Pose) -> object:
    return message_type(TF.msgtype)([transform(stamp_ns, "odom", "base_link", odom_from_base)])


def _odometry(stamps: list[int], poses: Mapping[int, Pose], i: int) -> object:
    """Make an Odometry: pose in odom; twist in base_link from the neighbouring sweeps, zero where there is only one."""
    before, after = stamps[max(i - 1, 0)], stamps[min(i + 1, len(stamps) - 1)]
    linear, angular = np.zeros(3), np.zeros(3)
    if after > before:
        seconds = (after - before) * 1e-9
        first, last = poses[before].matrix, poses[after].matrix
        linear = poses[stamps[i]].matrix[:3, :3].T @ (last[:3, 3] - first[:3, 3]) / seconds
        angular = rotation_vector(inverse(first) @ last) / seconds
    return odometry_message(stamps[i], poses[stamps[i]], linear, angular)


def odometry_message(stamp_ns: int, odom_from_base: Pose, linear: np.ndarray, angular: np.ndarray) -> object:
    """Make a nav_msgs/Odometry; linear [m/s] and angular [rad/s] velocity in base_link."""
    twist = message_type("geometry_msgs/msg/Twist")(vector(linear), vector(angular))
    return message_type(ODOMETRY.msgtype)(
        header(stamp_ns, "odom"),
        "base_link",
        message_type("geometry_msgs/msg/PoseWithCovariance")(pose(odom_from_base), UNKNOWN_COVARIANCE),
        message_type("geometry_msgs/msg/TwistWithCovariance")(twist, UNKNOWN_COVARIANCE),
    )


def _position(location: str, capture: Capture) -> object:
    x, y, _ = capture.odom_from_base.translation
    origin_latitude, origin_longitude = REFERENCE_COORDINATES[location]
    latitude, longitude = get_coordinate(origin_latitude, origin_longitude, math.atan2(x, y), math.hypot(x, y))
    status = message_type("sensor_msgs/msg/NavSatStatus")(0, 1)  # STATUS_FIX, SERVICE_GPS
    return message_type(GPS.msgtype)(
        header(capture.stamp_ns, "base_link"), status, latitude, longitude, math.nan, np.zeros(9), 0
    )  # COVARIANCE_TYPE_UNKNOWN

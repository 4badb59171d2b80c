"""Headers, poses and transforms as messages."""

import math
from collections.abc import Sequence

import numpy as np

from vexkd_model.geometry.transforms import quaternion_from_matrix
from vexkd_ros.bags.scene.tables import Pose
from vexkd_ros.bags.typestore import message_type

UNKNOWN_COVARIANCE = np.zeros(36)


def header(stamp_ns: int, frame_id: str) -> object:
    """std_msgs/Header."""
    return message_type("std_msgs/msg/Header")(
        message_type("builtin_interfaces/msg/Time")(*divmod(stamp_ns, 10**9)), frame_id)


def pose(parent_from_child: Pose) -> object:
    """geometry_msgs/Pose, the very numbers of the tables."""
    return message_type("geometry_msgs/msg/Pose")(
        point(parent_from_child.translation), _quaternion(parent_from_child.rotation))


def transform(stamp_ns: int, parent: str, child: str, parent_from_child: Pose) -> object:
    """geometry_msgs/TransformStamped, the very numbers of the tables."""
    return message_type("geometry_msgs/msg/TransformStamped")(
        header(stamp_ns, parent), child, message_type("geometry_msgs/msg/Transform")(
            vector(parent_from_child.translation), _quaternion(parent_from_child.rotation)))


def vector(xyz: Sequence[float]) -> object:
    """geometry_msgs/Vector3."""
    return message_type("geometry_msgs/msg/Vector3")(*map(float, xyz))


def point(xyz: Sequence[float]) -> object:
    """geometry_msgs/Point."""
    return message_type("geometry_msgs/msg/Point")(*map(float, xyz))


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """float64 (3,) of a matrix (4, 4): axis · angle [rad]."""
    w, *axis = quaternion_from_matrix(matrix)
    sine = np.linalg.norm(axis)
    return np.zeros(3) if sine < 1e-12 else np.array(axis) * (2 * math.atan2(sine, w) / sine)


def _quaternion(wxyz: Sequence[float]) -> object:
    w, x, y, z = map(float, wxyz)
    return message_type("geometry_msgs/msg/Quaternion")(x, y, z, w)

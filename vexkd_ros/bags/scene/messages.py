"""Parts of messages: headers, poses, transforms, markers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vexkd_model.figures.palette import Rgb
from vexkd_model.geometry.transforms import quaternion_from_matrix
from vexkd_ros.bags.scene.tables import Pose
from vexkd_ros.bags.typestore import message_type

UNKNOWN_COVARIANCE = np.zeros(36)


def header(stamp_ns: int, frame_id: str) -> Any:
    """Make a std_msgs/Header."""
    return message_type("std_msgs/msg/Header")(
        message_type("builtin_interfaces/msg/Time")(*divmod(stamp_ns, 10**9)), frame_id
    )


def pose(parent_from_child: Pose) -> object:
    """Make a geometry_msgs/Pose, the very numbers of the tables."""
    return message_type("geometry_msgs/msg/Pose")(
        point(parent_from_child.translation), _quaternion(parent_from_child.rotation)
    )


def transform(stamp_ns: int, parent: str, child: str, parent_from_child: Pose) -> object:
    """Make a geometry_msgs/TransformStamped, the very numbers of the tables."""
    return message_type("geometry_msgs/msg/TransformStamped")(
        header(stamp_ns, parent),
        child,
        message_type("geometry_msgs/msg/Transform")(
            vector(parent_from_child.translation), _quaternion(parent_from_child.rotation)
        ),
    )


def vector(xyz: Sequence[float] | np.ndarray) -> object:
    """Make a geometry_msgs/Vector3."""
    return message_type("geometry_msgs/msg/Vector3")(*map(float, xyz))


def point(xyz: Sequence[float] | np.ndarray) -> object:
    """Make a geometry_msgs/Point."""
    return message_type("geometry_msgs/msg/Point")(*map(float, xyz))


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Return axis · angle [rad], float64 (3,), of a matrix (4, 4)."""
    w, *axis = quaternion_from_matrix(matrix)
    sine = np.linalg.norm(axis)
    return np.zeros(3) if sine < 1e-12 else np.array(axis) * (2 * math.atan2(sine, w) / sine)


def _quaternion(wxyz: Sequence[float]) -> object:
    w, x, y, z = map(float, wxyz)
    return message_type("geometry_msgs/msg/Quaternion")(x, y, z, w)


# --- visualization_msgs/Marker, whose many fields mostly stay empty ------------------------

ARROW, CUBE, LINE_LIST = 0, 1, 5  # types of visualization_msgs/Marker
ADD, DELETE_ALL = 0, 3  # its actions
NOTHING = np.zeros(0, np.uint8)
HERE = Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))


def delete_all(at: object) -> object:
    """Make the marker that deletes everything shown before. at: std_msgs/Header."""
    return _marker(at, "", 0, ARROW, DELETE_ALL, HERE, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), [])


def marker(
    at: object,
    namespace: str,
    number: int,
    kind: int,
    scale: Sequence[float],
    colour: Rgb,
    alpha: float,
    points: Sequence[object] = (),
    base_from: Pose = HERE,
) -> object:
    """Make a marker at `base_from` in the frame of `at`; scale and points [m] mean what the kind makes of them."""
    rgba = (*(channel / 255 for channel in colour), alpha)
    return _marker(at, namespace, number, kind, ADD, base_from, scale, rgba, list(points))


def _marker(
    at: object,
    namespace: str,
    number: int,
    kind: int,
    action: int,
    place: Pose,
    scale: Sequence[float],
    rgba: Sequence[float],
    points: list,
) -> object:
    return message_type("visualization_msgs/msg/Marker")(
        header=at,
        ns=namespace,
        id=number,
        type=kind,
        action=action,
        pose=pose(place),
        scale=vector(scale),
        color=message_type("std_msgs/msg/ColorRGBA")(*map(float, rgba)),
        lifetime=message_type("builtin_interfaces/msg/Duration")(0, 0),
        frame_locked=False,
        points=points,
        colors=[],
        texture_resource="",
        texture=message_type("sensor_msgs/msg/CompressedImage")(at, "", NOTHING),
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=message_type("visualization_msgs/msg/MeshFile")("", NOTHING),
        mesh_use_embedded_materials=False,
    )

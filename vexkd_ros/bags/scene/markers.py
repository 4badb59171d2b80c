"""visualization_msgs/Marker, whose many fields mostly stay empty."""

from collections.abc import Sequence

import numpy as np

from vexkd_model.figures.palette import Rgb
from vexkd_ros.bags.scene.geometry import pose, vector
from vexkd_ros.bags.scene.tables import Pose
from vexkd_ros.bags.typestore import message_type

ARROW, CUBE, LINE_LIST = 0, 1, 5  # types of visualization_msgs/Marker
ADD, DELETE_ALL = 0, 3  # its actions
NOTHING = np.zeros(0, np.uint8)
HERE = Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))


def delete_all(at: object) -> object:
    """Everything that was shown before disappears. at: std_msgs/Header."""
    return _marker(at, "", 0, ARROW, DELETE_ALL, HERE, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), [])


def marker(at: object, namespace: str, number: int, kind: int, scale: Sequence[float], colour: Rgb, alpha: float,
           points: Sequence[object] = (), base_from: Pose = HERE) -> object:
    """A marker at `base_from` in the frame of `at`; scale and points [m] mean what the kind makes of them."""
    rgba = (*(channel / 255 for channel in colour), alpha)
    return _marker(at, namespace, number, kind, ADD, base_from, scale, rgba, list(points))


def _marker(at: object, namespace: str, number: int, kind: int, action: int, place: Pose, scale: Sequence[float],
            rgba: Sequence[float], points: list) -> object:
    return message_type("visualization_msgs/msg/Marker")(
        header=at, ns=namespace, id=number, type=kind, action=action, pose=pose(place), scale=vector(scale),
        color=message_type("std_msgs/msg/ColorRGBA")(*map(float, rgba)),
        lifetime=message_type("builtin_interfaces/msg/Duration")(0, 0), frame_locked=False, points=points, colors=[],
        texture_resource="", texture=message_type("sensor_msgs/msg/CompressedImage")(at, "", NOTHING),
        uv_coordinates=[], text="", mesh_resource="",
        mesh_file=message_type("visualization_msgs/msg/MeshFile")("", NOTHING), mesh_use_embedded_materials=False)

"""One nuScenes scene as ROS messages in the order of time. Needs no ROS.

Frames: odom (nuScenes' global frame) → base_link (its ego frame) → lidar_top, cam_front, …
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from rosbags.interfaces import Qos

from vexkd_model.data.sweeps import read_lidar_file
from vexkd_model.geometry.transforms import inverse, matrix_from_pose, quaternion_from_matrix
from vexkd_ros.bags.qos import LATCHED, STREAM, TRANSFORMS
from vexkd_ros.bags.typestore import bag_typestore

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
LIDAR = "LIDAR_TOP"
LIDAR_RECORD = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2")])
POINT_FIELD_TYPE = {"<f4": 7, "<u2": 4}  # sensor_msgs/PointField FLOAT32, UINT16


@dataclass(frozen=True)
class Topic:
    """A topic of our bags; at equal stamps topics are written in the order of TOPICS."""

    name: str
    msgtype: str
    qos: Qos


TF_STATIC = Topic("/tf_static", "tf2_msgs/msg/TFMessage", LATCHED)
TF = Topic("/tf", "tf2_msgs/msg/TFMessage", TRANSFORMS)
ODOMETRY = Topic("/odom", "nav_msgs/msg/Odometry", STREAM)
KEYFRAME = Topic("/keyframe", "std_msgs/msg/Header", STREAM)
GROUND_TRUTH = Topic("/ground_truth", "vision_msgs/msg/Detection3DArray", STREAM)
POINTS = Topic("/lidar/points", "sensor_msgs/msg/PointCloud2", STREAM)
TOPICS = (TF_STATIC, TF, ODOMETRY, KEYFRAME, GROUND_TRUTH, POINTS)  # transforms before the data that needs them


def scene_messages(nusc: NuScenes, scene: dict) -> Iterator[tuple[Topic, int, object]]:
    """(topic, stamp [ns], message) of a scene in the order of time; points are read only when they are due."""
    sample = nusc.get("sample", scene["first_sample_token"])
    sweeps = _chain(nusc, sample["data"][LIDAR])
    views = [record for name in CAMERAS if name in sample["data"] for record in _chain(nusc, sample["data"][name])]
    odom_from_base = {_stamp_ns(record): _ego_pose(nusc, record) for record in (*views, *sweeps)}
    stamps = [_stamp_ns(record) for record in sweeps]
    first_stamp = min(odom_from_base)

    due: list[tuple[int, Topic, Callable[[], object]]] = [
        (first_stamp, TF_STATIC, partial(_static_transforms, nusc, sample, first_stamp))]
    due += [(stamp, TF, partial(_ego_transform, pose, stamp)) for stamp, pose in odom_from_base.items()]
    due += [(stamp, POINTS, partial(point_cloud, Path(nusc.dataroot) / record["filename"], stamp))
            for stamp, record in zip(stamps, sweeps, strict=True)]
    due += [(stamp, ODOMETRY, partial(_odometry, stamps, odom_from_base, i)) for i, stamp in enumerate(stamps)]
    for record in sweeps:
        if record["is_key_frame"]:
            stamp = _stamp_ns(record)
            due += [(stamp, KEYFRAME, partial(header, stamp, record["sample_token"])),
                    (stamp, GROUND_TRUTH, partial(_ground_truth, nusc, record, odom_from_base[stamp]))]
    for stamp, topic, make in sorted(due, key=lambda item: (item[0], TOPICS.index(item[1]))):
        yield topic, stamp, make()


def point_cloud(path: Path, stamp_ns: int) -> object:
    """A nuScenes `.pcd.bin` (float32 x, y, z, intensity 0 … 255, ring) as PointCloud2 in the frame lidar_top."""
    values = read_lidar_file(path)
    records = np.empty(len(values), LIDAR_RECORD)
    for column, name in enumerate(LIDAR_RECORD.names):
        records[name] = values[:, column]
    field = _type("sensor_msgs/msg/PointField")
    fields = [field(name, offset, POINT_FIELD_TYPE[dtype.str], 1)
              for name, (dtype, offset) in LIDAR_RECORD.fields.items()]
    return _type(POINTS.msgtype)(
        header=header(stamp_ns, "lidar_top"), height=1, width=len(records), fields=fields, is_bigendian=False,
        point_step=LIDAR_RECORD.itemsize, row_step=LIDAR_RECORD.itemsize * len(records),
        data=records.view(np.uint8), is_dense=bool(np.isfinite(values[:, :3]).all()))


def header(stamp_ns: int, frame_id: str) -> object:
    """std_msgs/Header."""
    return _type("std_msgs/msg/Header")(_type("builtin_interfaces/msg/Time")(*divmod(stamp_ns, 10**9)), frame_id)


def _chain(nusc: NuScenes, token: str) -> list[dict]:
    """All sample_data of one sensor in a scene, oldest first, from any one of them."""
    record = nusc.get("sample_data", token)
    while record["prev"]:
        record = nusc.get("sample_data", record["prev"])
    chain = [record]
    while record["next"]:
        record = nusc.get("sample_data", record["next"])
        chain.append(record)
    return chain


def _stamp_ns(record: dict) -> int:
    return record["timestamp"] * 1000


def _ego_pose(nusc: NuScenes, record: dict) -> np.ndarray:
    pose = nusc.get("ego_pose", record["ego_pose_token"])
    return matrix_from_pose(pose["translation"], pose["rotation"])


def _static_transforms(nusc: NuScenes, sample: dict, stamp: int) -> object:
    transforms = []
    for name in (LIDAR, *CAMERAS):
        if name in sample["data"]:
            record = nusc.get("sample_data", sample["data"][name])
            sensor = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
            base_from_sensor = matrix_from_pose(sensor["translation"], sensor["rotation"])
            transforms.append(_transform(base_from_sensor, stamp, "base_link", name.lower()))
    return _type(TF_STATIC.msgtype)(transforms)


def _ego_transform(odom_from_base: np.ndarray, stamp: int) -> object:
    return _type(TF.msgtype)([_transform(odom_from_base, stamp, "odom", "base_link")])


def _odometry(stamps: list[int], odom_from_base: dict[int, np.ndarray], i: int) -> object:
    """Pose in odom; twist in base_link from the neighbouring sweeps, zero where a scene has only one."""
    pose = odom_from_base[stamps[i]]
    before, after = stamps[max(i - 1, 0)], stamps[min(i + 1, len(stamps) - 1)]
    linear, angular = np.zeros(3), np.zeros(3)
    if after > before:
        seconds = (after - before) * 1e-9
        linear = pose[:3, :3].T @ (odom_from_base[after][:3, 3] - odom_from_base[before][:3, 3]) / seconds
        angular = _rotation_vector(inverse(odom_from_base[before]) @ odom_from_base[after]) / seconds
    vector = _type("geometry_msgs/msg/Vector3")
    twist = _type("geometry_msgs/msg/Twist")(vector(*map(float, linear)), vector(*map(float, angular)))
    unknown = np.zeros(36)
    return _type(ODOMETRY.msgtype)(
        header(stamps[i], "odom"), "base_link",
        _type("geometry_msgs/msg/PoseWithCovariance")(_pose(pose), unknown),
        _type("geometry_msgs/msg/TwistWithCovariance")(twist, unknown))


def _rotation_vector(matrix: np.ndarray) -> np.ndarray:
    w, *axis = quaternion_from_matrix(matrix)
    sine = np.linalg.norm(axis)
    return np.zeros(3) if sine < 1e-12 else np.array(axis) * (2 * np.arctan2(sine, w) / sine)


def _ground_truth(nusc: NuScenes, keyframe: dict, odom_from_base: np.ndarray) -> object:
    """The annotations of the ten detection classes in base_link; id is the instance token."""
    stamp = _stamp_ns(keyframe)
    array = _type(GROUND_TRUTH.msgtype)(header(stamp, "base_link"), [])
    for token in nusc.get("sample", keyframe["sample_token"])["anns"]:
        annotation = nusc.get("sample_annotation", token)
        name = category_to_detection_name(annotation["category_name"])
        if name is not None:
            odom_from_box = matrix_from_pose(annotation["translation"], annotation["rotation"])
            width, length, height = annotation["size"]
            array.detections.append(detection(
                stamp, inverse(odom_from_base) @ odom_from_box, (length, width, height), name, 1.0,
                annotation["instance_token"]))
    return array


def detection(stamp_ns: int, base_from_box: np.ndarray, size: tuple[float, float, float], name: str, score: float,
              identity: str = "") -> object:
    """vision_msgs/Detection3D in base_link; size is (length, width, height) [m]."""
    pose = _pose(base_from_box)
    result = _type("vision_msgs/msg/ObjectHypothesisWithPose")(
        _type("vision_msgs/msg/ObjectHypothesis")(name, float(score)),
        _type("geometry_msgs/msg/PoseWithCovariance")(pose, np.zeros(36)))
    box = _type("vision_msgs/msg/BoundingBox3D")(pose, _type("geometry_msgs/msg/Vector3")(*map(float, size)))
    return _type("vision_msgs/msg/Detection3D")(header(stamp_ns, "base_link"), [result], box, identity)


def _transform(parent_from_child: np.ndarray, stamp: int, parent: str, child: str) -> object:
    pose = _pose(parent_from_child)
    translation = _type("geometry_msgs/msg/Vector3")(pose.position.x, pose.position.y, pose.position.z)
    return _type("geometry_msgs/msg/TransformStamped")(
        header(stamp, parent), child, _type("geometry_msgs/msg/Transform")(translation, pose.orientation))


def _pose(parent_from_child: np.ndarray) -> object:
    w, x, y, z = map(float, quaternion_from_matrix(parent_from_child))
    return _type("geometry_msgs/msg/Pose")(
        _type("geometry_msgs/msg/Point")(*map(float, parent_from_child[:3, 3])),
        _type("geometry_msgs/msg/Quaternion")(x, y, z, w))


def _type(name: str) -> type:
    return bag_typestore().types[name]

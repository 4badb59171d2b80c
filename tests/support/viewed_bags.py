"""Bags to look at: a scene, and what a student and another camera published beside it."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer

from vexkd_model.data.index import FrameIndex
from vexkd_model.types import DETECTION_CLASSES
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.typestore import bag_typestore

LATER_NS = 50_000_000  # the camera takes its picture so long after the keyframe: with the next sweep
TURNED_DEGREES = 40.0  # the student's first box, against the annotated one
TURN = np.array([0, 0, 0, 0, 0, 0, np.radians(TURNED_DEGREES), 0, 0])
SIZE, FOCAL = (1280, 720), 900.0


def header(stamp_ns: int, frame: str) -> object:
    types = bag_typestore().types
    return types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9)), frame)


def detection(stamp_ns: int, values: np.ndarray, label: int, score: float) -> object:
    t = bag_typestore().types
    x, y, z, length, width, height, yaw = map(float, values[:7])
    pose = t["geometry_msgs/msg/Pose"](
        t["geometry_msgs/msg/Point"](x, y, z),
        t["geometry_msgs/msg/Quaternion"](0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2))),
    )
    result = t["vision_msgs/msg/ObjectHypothesisWithPose"](
        t["vision_msgs/msg/ObjectHypothesis"](DETECTION_CLASSES[label], score),
        t["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
    )
    size = t["geometry_msgs/msg/Vector3"](length, width, height)
    return t["vision_msgs/msg/Detection3D"](
        header(stamp_ns, "base_link"), [result], t["vision_msgs/msg/BoundingBox3D"](pose, size), ""
    )


def camera_info(stamp_ns: int) -> object:
    t = bag_typestore().types
    width, height = SIZE
    k = np.array([FOCAL, 0, width / 2, 0, FOCAL, height / 2, 0, 0, 1])
    region = t["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return t["sensor_msgs/msg/CameraInfo"](
        header(stamp_ns, "cam_front"),
        height,
        width,
        "plumb_bob",
        np.zeros(5),
        k,
        np.eye(3).ravel(),
        np.zeros(12),
        0,
        0,
        region,
    )


def write_viewed_bags(dataset: Path, index: FrameIndex, folder: Path) -> list[Path]:
    """Write a scene, and beside it a student that sees the first annotated box of each keyframe and a car that is not
    there, and a camera of a large picture."""
    scene = convert(dataset, "v1.0-mini", folder)[0]
    jpeg = io.BytesIO()
    Image.new("RGB", SIZE, (200, 30, 30)).save(jpeg, "JPEG")
    store = bag_typestore()
    kinds = {
        "/student_node/detections": "vision_msgs/msg/Detection3DArray",
        "/eye/image/compressed": "sensor_msgs/msg/CompressedImage",
        "/eye/camera_info": "sensor_msgs/msg/CameraInfo",
    }
    with Writer(folder / "published", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in kinds.items()}
        for i in range(len(index)):
            record = index[i]
            stamp, taken = record.stamp_ns, record.stamp_ns + LATER_NS
            invented = np.array([-20, 30, 1, 4, 2, 1.5, 0])
            messages = {
                "/student_node/detections": store.types[kinds["/student_node/detections"]](
                    header(stamp, "base_link"),
                    [
                        detection(stamp, record.boxes.values[0] + TURN, int(record.boxes.labels[0]), 0.8),
                        detection(stamp, invented, 0, 0.4),
                    ],
                ),
                "/eye/image/compressed": store.types[kinds["/eye/image/compressed"]](
                    header(taken, "cam_front"), "jpeg", np.frombuffer(jpeg.getvalue(), np.uint8)
                ),
                "/eye/camera_info": camera_info(taken),
            }
            for topic, message in messages.items():
                writer.write(topics[topic], stamp, store.serialize_cdr(message, kinds[topic]))
    return [scene, folder / "published"]

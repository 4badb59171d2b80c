"""A bag of a vehicle that is not nuScenes': other topics and frames, two LiDARs of 64 beams, three cameras, odometry.

The vehicle drives through posts, points that stand still in `map`: what is right can be computed of them by hand. No
code of the project makes a number here, but for the message types.
"""

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from scipy.spatial.transform import Rotation

from vexkd_ros.bags.typestore import bag_typestore

START_NS, SECONDS, SPEED, TURN = 1_700_000_000_000_000_000, 2.1, 10.0, 0.3
SIZE = (160, 96)
K = np.array([[100.0, 0, 80], [0, 100, 48], [0, 0, 1]])
DISTORTION = np.array([-0.25, 0.08, 0.001, -0.001, 0.0])
BASE_FROM_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
POSTS = np.random.default_rng(7).uniform([-30, -30, 0], [60, 30, 3], (400, 3))  # in map [m]
DOT = np.array([0.5, -0.25, 1.0])  # the ray, in the front camera's frame, on which a lamp is
LIDARS = {"front_lidar": ((2.0, 0.1, 1.2), 0.05, 0.0), "rear_lidar": ((-1.0, -0.1, 1.4), 3.0, 0.03)}  # xyz, yaw, delay
CAMERAS = {"cam_f": ((1.8, 0, 1.5), 0.0), "cam_l": ((1.0, 0.5, 1.5), 1.7), "cam_r": ((-0.5, 0, 1.5), np.pi)}
POINTS = {"front_lidar": "/sensing/front/points_raw", "rear_lidar": "/sensing/rear/points_raw"}
IMAGES = {"cam_f": "/cams/front/image_raw", "cam_l": "/cams/port/image_color/compressed", "cam_r": "/cams/rear/image"}
INFOS = {"cam_f": "/cams/front/camera_info", "cam_l": "/cams/port/camera_info", "cam_r": "/cams/rear/camera_info"}
ODOMETRY = "/localisation"
JPEG = cv2.imencode(".jpg", np.random.default_rng(3).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8))[1].ravel()


def pose(xyz: tuple[float, float, float], yaw: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = Rotation.from_euler("Z", yaw).as_matrix(), xyz
    return matrix


def map_from_base(seconds: float) -> np.ndarray:
    yaw = TURN * seconds
    return pose((SPEED * np.sin(yaw) / TURN, SPEED * (1 - np.cos(yaw)) / TURN, 0.2), yaw)


def base_from(frame: str) -> np.ndarray:
    if frame in LIDARS:
        return pose(*LIDARS[frame][:2])
    matrix = pose(*CAMERAS[frame])
    matrix[:3, :3] = matrix[:3, :3] @ BASE_FROM_OPTICAL
    return matrix


def write_vehicle_bag(out: Path, storage: StoragePlugin = StoragePlugin.SQLITE3, start_ns: int = START_NS) -> Path:
    """Write the bag; return its folder."""
    store = bag_typestore()
    types = store.types
    messages: list[tuple[int, str, str, object]] = []

    def header(frame: str, seconds: float):
        stamp = start_ns + round(seconds * 1e9)
        return types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9)), frame)

    def add(topic: str, msgtype: str, seconds: float, message: object) -> None:
        messages.append((start_ns + round(seconds * 1e9) + 5_000_000, topic, msgtype, message))

    def parts(matrix: np.ndarray):
        x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
        return matrix[:3, 3].tolist(), types["geometry_msgs/msg/Quaternion"](x, y, z, w)

    static = []
    for frame in (*LIDARS, *CAMERAS):
        xyz, quaternion = parts(base_from(frame))
        transform = types["geometry_msgs/msg/Transform"](types["geometry_msgs/msg/Vector3"](*xyz), quaternion)
        static.append(types["geometry_msgs/msg/TransformStamped"](header("base_footprint", 0), frame, transform))
    add("/tf_static", "tf2_msgs/msg/TFMessage", -0.02, types["tf2_msgs/msg/TFMessage"](static))
    for i in range(-5, round(SECONDS * 100) + 5):
        xyz, quaternion = parts(map_from_base(i / 100))
        twist = types["geometry_msgs/msg/Twist"](*(types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0) for _ in range(2)))
        message = types["nav_msgs/msg/Odometry"](
            header("map", i / 100),
            "base_footprint",
            types["geometry_msgs/msg/PoseWithCovariance"](
                types["geometry_msgs/msg/Pose"](types["geometry_msgs/msg/Point"](*xyz), quaternion), np.zeros(36)
            ),
            types["geometry_msgs/msg/TwistWithCovariance"](twist, np.zeros(36)),
        )
        add(ODOMETRY, "nav_msgs/msg/Odometry", i / 100, message)
    for frame, (_, _, delay) in LIDARS.items():
        for i in range(round(SECONDS * 10)):
            seconds = i / 10 + delay
            add(
                POINTS[frame],
                "sensor_msgs/msg/PointCloud2",
                seconds,
                cloud(types, header(frame, seconds), frame, seconds),
            )
    for frame in CAMERAS:
        for i in range(round(SECONDS * 10)):
            seconds = i / 10 + 0.01
            kind = "CompressedImage" if IMAGES[frame].endswith("compressed") else "Image"
            add(IMAGES[frame], f"sensor_msgs/msg/{kind}", seconds, image(types, header(frame, seconds), frame))
            add(INFOS[frame], "sensor_msgs/msg/CameraInfo", seconds, info(types, header(frame, seconds), frame))
    with Writer(out, version=8, storage_plugin=storage) as writer:
        connections = {}
        for stamp, topic, msgtype, message in sorted(messages, key=lambda one: one[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
            writer.write(connections[topic], stamp, store.serialize_cdr(message, msgtype))
    return out


def cloud(types, header, frame: str, seconds: float):
    """All posts, of intensity 0 … 1 and 64 beams, beside a column that nobody knows, and rays without return."""
    map_from_sensor = map_from_base(seconds) @ base_from(frame)
    seen = (POSTS - map_from_sensor[:3, 3]) @ map_from_sensor[:3, :3]
    dtype = np.dtype([("t", "<u4"), ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2")])
    points = np.zeros(len(seen) + 3, dtype)
    for axis, name in enumerate("xyz"):
        points[name][:-3] = seen[:, axis]
    points["x"][-1] = np.nan
    points["intensity"][:-3], points["ring"][:-3] = np.arange(len(seen)) / (len(seen) - 1), np.arange(len(seen)) % 64
    field = types["sensor_msgs/msg/PointField"]
    kinds = {"u4": 6, "f4": 7, "u2": 4}
    fields = [field(name, dtype.fields[name][1], kinds[dtype[name].str[1:]], 1) for name in dtype.names]
    return types["sensor_msgs/msg/PointCloud2"](
        header, 1, len(points), fields, False, dtype.itemsize, points.nbytes, points.view(np.uint8), False
    )


def image(types, header, frame: str):
    """The front camera's shows a lamp, the left one's is the JPEG, the rear one's is grey of 77."""
    if frame == "cam_l":
        return types["sensor_msgs/msg/CompressedImage"](header, "rgb8; jpeg compressed bgr8", JPEG)
    if frame == "cam_r":
        return types["sensor_msgs/msg/Image"](
            header, SIZE[1], SIZE[0], "mono8", 0, SIZE[0], np.full(SIZE[0] * SIZE[1], 77, np.uint8)
        )
    (at,) = cv2.projectPoints(DOT[None], np.zeros(3), np.zeros(3), K, DISTORTION)[0][0]
    columns, rows = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    bright = 255 * np.exp(-((columns + 0.5 - at[0]) ** 2 + (rows + 0.5 - at[1]) ** 2) / 8)
    pixels = np.repeat(bright.astype(np.uint8)[..., None], 3, axis=2)
    return types["sensor_msgs/msg/Image"](header, SIZE[1], SIZE[0], "rgb8", 0, 3 * SIZE[0], pixels.ravel())


def info(types, header, frame: str):
    distortion = DISTORTION if frame == "cam_f" else np.zeros(5)
    return types["sensor_msgs/msg/CameraInfo"](
        header,
        SIZE[1],
        SIZE[0],
        "plumb_bob",
        distortion,
        K.ravel(),
        np.eye(3).ravel(),
        np.column_stack([K, np.zeros(3)]).ravel(),
        0,
        0,
        types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )

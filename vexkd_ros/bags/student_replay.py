"""A bag through a student in this process: the node's own way from messages to Frames, as fast as the student goes.

The node predicts whenever it has time; here every wanted moment is predicted, none is dropped. Needs no ROS.
"""

import math
import os
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rosbags.interfaces import Connection

from vexkd_model.config.camera import CameraConfig
from vexkd_model.config.lidar import LidarConfig
from vexkd_model.data.sweeps import accumulate_sweeps
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.types import Frame, Prediction
from vexkd_ros.bags.reading import header_stamp_ns, open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.inputs.camera_history import CameraHistory
from vexkd_ros.inputs.camera_sync import CameraSync, ReceivedImage
from vexkd_ros.inputs.camera_views import Camera, CameraViews
from vexkd_ros.inputs.pointcloud import CloudError, read_cloud
from vexkd_ros.inputs.sweeps import RawSweep, SweepBuffer, place_sweeps
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.inputs.unavailable import TransformUnavailable

# student_node's defaults
BASE_FRAME, ODOM_FRAME = "base_link", "odom"
MAX_SWEEP_GAP_NS, CAMERA_TOLERANCE_NS = 500_000_000, 60_000_000
WAIT_NS = 100_000_000  # time goes on by so much before a moment is predicted: for what comes later than its stamp
LONG_AGO = -1e9  # of time.monotonic(): whatever was waited for since then is late
TRANSFORMS = {"/tf": False, "/tf_static": True}  # topic: is static


class TopicNames(NamedTuple):
    """points: a LiDAR student's. cameras: namespaces of a camera student's, in the student's order."""

    points: str = "/lidar/points"
    cameras: tuple[str, ...] = ()


@dataclass
class ReplayRecord:
    """What is known of a replay. latency: seconds of every frame, by stage. drops, degraded: reasons and how often.
    driven_s: how long the bags are. took_s: how long all of it took."""

    latency: dict[str, list[float]] = field(default_factory=lambda: {"convert": [], "infer": []})
    drops: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    driven_s: float = 0.0
    took_s: float = 0.0


def predict_bag(bag: Path, predictor: Predictor, stamps: Collection[int], topics: TopicNames,
                record: ReplayRecord) -> Iterator[Prediction]:
    """One Prediction for each of `stamps` [ns] of which the bag holds enough; of the others, `record` says why not."""
    begun = time.monotonic()
    inputs = _inputs(predictor, topics, set(stamps), record)
    try:
        with open_bag(bag) as reader:
            record.driven_s += reader.duration * 1e-9
            wanted = [connection for connection in reader.connections
                      if connection.topic in TRANSFORMS or inputs.listens_to(connection)]
            if not any(map(inputs.listens_to, wanted)):
                raise UserError(f"{bag}: holds no {' and no '.join(inputs.missing_names)}; name the topics of this bag")
            due = deque(sorted(stamps))
            for connection, _, data in reader.messages(wanted):
                if connection.topic not in TRANSFORMS:
                    # The bag's time is that of its stamps: its log times may be those of another replay.
                    yield from _predict_due(inputs, predictor, due, header_stamp_ns(data) - WAIT_NS, record)
                message = bag_typestore().deserialize_cdr(data, connection.msgtype)
                if connection.topic in TRANSFORMS:
                    inputs.transforms.insert_message(message, TRANSFORMS[connection.topic])
                else:
                    inputs.take(connection, message, header_stamp_ns(data))
            yield from _predict_due(inputs, predictor, due, math.inf, record)
    finally:
        inputs.close()
        record.took_s += time.monotonic() - begun


def _inputs(predictor: Predictor, topics: TopicNames, stamps: set[int],
            record: ReplayRecord) -> "LidarInputs | CameraInputs":
    config = predictor.config
    if config.fusion is not None:
        raise UserError(f"{config.name}: fuses LiDAR and cameras; the node takes students of one of them")
    if config.camera is not None:
        return CameraInputs(config.camera, topics.cameras, record)
    return LidarInputs(config.lidar, topics.points, stamps, record)


def _predict_due(inputs: "LidarInputs | CameraInputs", predictor: Predictor, due: deque[int], until_ns: float,
                 record: ReplayRecord) -> Iterator[Prediction]:
    while due and due[0] <= until_ns:
        stamp, begun = due.popleft(), time.monotonic()
        try:
            frame = inputs.frame(stamp)
        except TransformUnavailable as error:
            record.drops[error.kind] += 1
            continue
        if frame is not None:
            converted = time.monotonic()
            prediction = predictor.predict(frame)
            record.latency["convert"].append(converted - begun)
            record.latency["infer"].append(time.monotonic() - converted)
            yield prediction


class LidarInputs:
    """As LidarSource of the node: every sweep is kept for those after it."""

    def __init__(self, config: LidarConfig, topic: str, stamps: set[int], record: ReplayRecord) -> None:
        self.transforms, self.missing_names = TransformBuffer(), [topic]
        self._topic, self._stamps, self._record = topic, stamps, record
        self._sweeps = SweepBuffer(config.sweeps, MAX_SWEEP_GAP_NS, config.sweep_interval)
        self._histories: dict[int, tuple[RawSweep, ...]] = {}

    def listens_to(self, connection: Connection) -> bool:
        return connection.topic == self._topic

    def take(self, connection: Connection, message: object, stamp_ns: int) -> None:
        try:
            cloud = read_cloud(message)
        except CloudError as error:
            self._record.drops[error.kind] += 1
            return
        history, reason = self._sweeps.add(RawSweep(cloud.points, stamp_ns, message.header.frame_id))
        if stamp_ns in self._stamps:
            self._histories[stamp_ns] = history
            self._record.degraded.update([reason] if reason else [])

    def frame(self, stamp_ns: int) -> Frame | None:
        """None where the bag has no cloud of that stamp. Raises TransformUnavailable."""
        history = self._histories.pop(stamp_ns, None)
        if history is None:
            return None
        placed = place_sweeps(history, self.transforms, BASE_FRAME, ODOM_FRAME, LONG_AGO)
        self._record.degraded.update([placed.reason] if placed.reason else [])
        return Frame(accumulate_sweeps(placed.sweeps), stamp_ns)

    def close(self) -> None:
        """Nothing to end."""


class CameraInputs:
    """As CameraSource of the node with `use_reference`: the images nearest to each moment."""

    def __init__(self, config: CameraConfig, topics: tuple[str, ...], record: ReplayRecord) -> None:
        names = config.images.cameras
        topics = topics or tuple(f"/{name.lower()}" for name in names)
        if len(topics) != len(names):
            raise UserError(f"--cameras: {len(topics)} names, the student reads {len(names)}: {', '.join(names)}")
        self.transforms, self._record = TransformBuffer(), record
        self._number = {topic: i for i, topic in enumerate(topics)}
        self.missing_names = [f"{topic}/image" for topic in topics]
        self._sync = CameraSync(len(names), CAMERA_TOLERANCE_NS, 0.0, referenced=True)
        self._views = CameraViews([Camera(name, topic) for name, topic in zip(names, topics, strict=True)],
                                  config.images, self.transforms, BASE_FRAME, ODOM_FRAME,
                                  threads=min(len(names), len(os.sched_getaffinity(0))))
        self._history = CameraHistory(config.past_frames)
        self._infos: list[object | None] = [None] * len(names)

    def listens_to(self, connection: Connection) -> bool:
        camera, kind = _camera_and_kind(connection.topic)
        return camera in self._number and kind in ("image", "image/compressed", "camera_info")

    def take(self, connection: Connection, message: object, stamp_ns: int) -> None:
        camera, kind = _camera_and_kind(connection.topic)
        if kind == "camera_info":
            self._infos[self._number[camera]] = message
        else:
            reason = self._sync.give(self._number[camera], ReceivedImage(message, stamp_ns, LONG_AGO))
            self._record.degraded.update([f"{camera}: {reason}"] if reason else [])

    def frame(self, stamp_ns: int) -> Frame | None:
        """None where the bag has no image near that stamp. Raises TransformUnavailable."""
        self._sync.refer(stamp_ns, LONG_AGO)
        images = self._sync.take().images
        if not any(images):
            return None
        seen = self._views.see(stamp_ns, images, self._infos, LONG_AGO)
        self._record.degraded.update(seen.reasons)
        return self._history.frame(stamp_ns, seen)

    def close(self) -> None:
        """End the threads that decode."""
        self._views.close()


def _camera_and_kind(topic: str) -> tuple[str, str]:
    """/cam_front/image/compressed → /cam_front, image/compressed."""
    for kind in ("/image/compressed", "/image", "/camera_info"):
        if topic.endswith(kind):
            return topic.removesuffix(kind), kind[1:]
    return topic, ""

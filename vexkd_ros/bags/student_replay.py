"""Replay of a bag through a student in this process: the node's own way from messages to Frames, at full speed.

The node predicts whenever it has time; here every wanted moment is predicted, none is dropped. Needs no ROS.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.interfaces import Connection

from vexkd_model.config.camera import CameraConfig
from vexkd_model.config.lidar import LidarConfig
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.types import Prediction
from vexkd_ros.bags.reading import header_stamp_ns, open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.inputs.assembly import AssembledFrame, InputSettings
from vexkd_ros.inputs.camera_assembler import CameraAssembler
from vexkd_ros.inputs.camera_sync import ReceivedImage
from vexkd_ros.inputs.errors import CloudError, TransformUnavailable
from vexkd_ros.inputs.lidar_assembler import LidarAssembler, LidarPayload
from vexkd_ros.inputs.transforms import TransformBuffer

TF = "tf2_msgs/msg/TFMessage"
SETTINGS = InputSettings()  # student_node's defaults
# The bag's time goes on by so much before a moment is predicted: for what comes later than its stamp.
WAIT_NS = round(SETTINGS.tf_timeout * 1e9)
LONG_AGO = -1e9  # of time.monotonic(): whatever was waited for since then is late


class TopicNames(NamedTuple):
    """Topics of a bag. points: a LiDAR student's. cameras: namespaces of a camera student's, in its order.

    tf: the static ones are on tf + "_static".
    """

    points: str = "/lidar/points"
    cameras: tuple[str, ...] = ()
    tf: str = "/tf"


@dataclass
class ReplayRecord:
    """Record of a replay. latency: seconds of every frame, by stage. drops, degraded: reasons and how often.

    driven_s: how long the bags are. took_s: how long all of it took.
    """

    latency: dict[str, list[float]] = field(default_factory=lambda: {"convert": [], "infer": []})
    drops: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    driven_s: float = 0.0
    took_s: float = 0.0


def predict_bag(
    bag: Path, predictor: Predictor, stamps: Collection[int], topics: TopicNames, record: ReplayRecord
) -> Iterator[Prediction]:
    """Predict at each of `stamps` [ns] for which the bag holds enough; `record` says why not at the others."""
    begun, is_static = time.monotonic(), {topics.tf: False, f"{topics.tf}_static": True}
    others: list[str] = []
    inputs = _inputs(predictor, topics, set(stamps), TransformBuffer(hint=lambda: "".join(others)), record)
    try:
        with open_bag(bag) as reader:
            record.driven_s += reader.duration * 1e-9
            others += [
                f"; or give --tf {topic}"
                for topic in sorted(
                    {connection.topic for connection in reader.connections if connection.msgtype == TF}
                    - is_static.keys()
                )
                if topic.endswith("/tf")
            ]
            wanted = [
                connection
                for connection in reader.connections
                if connection.topic in is_static or inputs.listens_to(connection)
            ]
            if not any(map(inputs.listens_to, wanted)):
                raise UserError(f"{bag}: holds no {' and no '.join(inputs.missing_names)}; name the topics of this bag")
            due = deque(sorted(stamps))
            for connection, _, data in reader.messages(wanted):
                if connection.topic not in is_static:
                    # The bag's time is that of its stamps: its log times may be those of another replay.
                    yield from _predict_due(inputs, predictor, due, header_stamp_ns(data) - WAIT_NS, record)
                message = bag_typestore().deserialize_cdr(data, connection.msgtype)
                if connection.topic in is_static:
                    inputs.transforms.insert_message(message, is_static[connection.topic])
                else:
                    inputs.add(connection, message, header_stamp_ns(data))
            yield from _predict_due(inputs, predictor, due, math.inf, record)
    finally:
        inputs.close()
        record.took_s += time.monotonic() - begun


def heard_stamps(bag: Path, predictor: Predictor, topics: TopicNames) -> list[int] | None:
    """Read the stamps [ns] of one of the student's input topics; None where the bag has none of them."""
    inputs = _inputs(predictor, topics, set(), TransformBuffer(), ReplayRecord())
    try:
        with open_bag(bag) as reader:
            heard = [
                connection
                for connection in reader.connections
                if inputs.listens_to(connection) and not connection.topic.endswith("/camera_info")
            ]
            return [header_stamp_ns(data) for _, _, data in reader.messages(heard[:1])] if heard else None
    finally:
        inputs.close()


def _inputs(
    predictor: Predictor, topics: TopicNames, stamps: set[int], transforms: TransformBuffer, record: ReplayRecord
) -> "LidarReplay | CameraReplay":
    config = predictor.config
    if config.fusion is not None:
        raise UserError(f"{config.name}: fuses LiDAR and cameras; the node takes students of one of them")
    if config.camera is not None:
        return CameraReplay(config.camera, topics.cameras, transforms, record)
    assert config.lidar
    return LidarReplay(config.lidar, topics.points, stamps, transforms, record)


def _predict_due(
    inputs: "LidarReplay | CameraReplay", predictor: Predictor, due: deque[int], until_ns: float, record: ReplayRecord
) -> Iterator[Prediction]:
    while due and due[0] <= until_ns:
        stamp, begun = due.popleft(), time.monotonic()
        try:
            assembled = inputs.frame(stamp)
        except TransformUnavailable as error:
            record.drops[error.kind] += 1
            continue
        if assembled is not None:
            record.degraded.update(reason.kind for reason in assembled.reasons)
            converted = time.monotonic()
            prediction = predictor.predict(assembled.frame)
            record.latency["convert"].append(converted - begun)
            record.latency["infer"].append(time.monotonic() - converted)
            yield prediction


class LidarReplay:
    """Clouds of a bag for the node's own assembler; every sweep is kept for those after it."""

    def __init__(
        self, config: LidarConfig, topic: str, stamps: set[int], transforms: TransformBuffer, record: ReplayRecord
    ) -> None:
        self.transforms, self.missing_names = transforms, [topic]
        self._topic, self._stamps, self._record = topic, stamps, record
        self._assembler = LidarAssembler(config, SETTINGS, self.transforms)
        self._payloads: dict[int, LidarPayload] = {}

    def listens_to(self, connection: Connection) -> bool:
        return connection.topic == self._topic

    def add(self, connection: Connection, message: Any, stamp_ns: int) -> None:
        try:
            payload = self._assembler.add(message, stamp_ns)
        except CloudError as error:
            self._record.drops[error.kind] += 1
            return
        if stamp_ns in self._stamps:
            self._payloads[stamp_ns] = payload
            self._record.degraded.update(reason.kind for reason in payload.reasons)

    def frame(self, stamp_ns: int) -> AssembledFrame | None:
        """Make the Frame of a stamp; None where the bag has no cloud of it. Raises TransformUnavailable."""
        payload = self._payloads.pop(stamp_ns, None)
        return payload and self._assembler.frame(payload, LONG_AGO)

    def close(self) -> None:
        """End nothing."""


class CameraReplay:
    """Images of a bag for the node's own assembler: those nearest to each moment, as with `use_reference`."""

    def __init__(
        self, config: CameraConfig, topics: tuple[str, ...], transforms: TransformBuffer, record: ReplayRecord
    ) -> None:
        names = config.images.cameras
        topics = topics or tuple(f"/{name.lower()}" for name in names)
        if len(topics) != len(names):
            raise UserError(f"--cameras: {len(topics)} names, the student reads {len(names)}: {', '.join(names)}")
        self.transforms, self._record = transforms, record
        self._number = {topic: i for i, topic in enumerate(topics)}
        self.missing_names = [f"{topic}/image" for topic in topics]
        # A bag's images are all there: none is waited for.
        settings = replace(SETTINGS, use_reference=True, camera_deadline=0.0)
        self._assembler = CameraAssembler(config, topics, settings, self.transforms)

    def listens_to(self, connection: Connection) -> bool:
        camera, kind = _camera_and_kind(connection.topic)
        return camera in self._number and kind in ("image", "image/compressed", "camera_info")

    def add(self, connection: Connection, message: Any, stamp_ns: int) -> None:
        camera, kind = _camera_and_kind(connection.topic)
        if kind == "camera_info":
            self._assembler.add_info(self._number[camera], message)
        else:
            reason = self._assembler.add_image(self._number[camera], ReceivedImage(message, stamp_ns, LONG_AGO))
            self._record.degraded.update([f"{camera}: {reason}"] if reason else [])

    def frame(self, stamp_ns: int) -> AssembledFrame | None:
        """Make the Frame of a stamp; None where the bag has no image near it. Raises TransformUnavailable."""
        self._assembler.refer(stamp_ns, LONG_AGO)
        images = self._assembler.get()
        return self._assembler.frame(images, LONG_AGO) if images and any(images.images) else None

    def close(self) -> None:
        """End the threads that decode."""
        self._assembler.close()


def _camera_and_kind(topic: str) -> tuple[str, str]:
    """Split /cam_front/image/compressed into /cam_front and image/compressed."""
    for kind in ("/image/compressed", "/image", "/camera_info"):
        if topic.endswith(kind):
            return topic.removesuffix(kind), kind[1:]
    return topic, ""

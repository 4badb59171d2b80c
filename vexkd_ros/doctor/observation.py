"""Observation of topics, live or in a bag. Needs no ROS."""

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vexkd_ros.health.qos_match import QosOffer
from vexkd_ros.inputs.transforms import TransformBuffer

CLOUD, IMAGE, COMPRESSED, INFO, TF = (
    "sensor_msgs/msg/PointCloud2",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
)
SENSORS = (CLOUD, IMAGE, COMPRESSED, INFO)  # each begins with a std_msgs/Header
HEADER = struct.Struct("iII")  # after CDR's encapsulation: seconds, nanoseconds, length of frame_id
KEEP_S = 0.5  # between two messages that are kept
KEPT = {CLOUD: 20, IMAGE: 6, COMPRESSED: 6, INFO: 2}  # at most, of a topic


@dataclass
class Heard:
    """Sensor's topic and what came on it.

    arrivals [s]: by the clock of whoever received or recorded. stamps [ns] and frames: of the messages' headers. read:
    serialised message → message. damaged: what was wrong with messages that could not be read, and how often.
    """

    topic: str
    msgtype: str
    read: Callable[[bytes], Any]
    arrivals: list[float] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    frames: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    _kept: list[tuple[float, bytes]] = field(default_factory=list)

    def note(self, arrival_s: float, data: bytes) -> None:
        """Note arrival, stamp and frame of a message in CDR, or that it is damaged; keep one now and then."""
        if len(data) < 4 + HEADER.size:
            self.damaged["shorter than its header"] += 1
            return
        seconds, nanoseconds, length = struct.unpack_from(("<" if data[1] & 1 else ">") + HEADER.format, data, 4)
        if seconds < 0:
            self.damaged["its stamp lies before 1970"] += 1
            return
        begin = 4 + HEADER.size
        self.arrivals.append(arrival_s)
        self.stamps.append(seconds * 10**9 + nanoseconds)
        self.frames[bytes(data[begin : begin + length]).rstrip(b"\0").decode(errors="replace")] += 1
        if len(self._kept) < KEPT[self.msgtype] and (not self._kept or arrival_s - self._kept[-1][0] >= KEEP_S):
            self._kept.append((arrival_s, bytes(data)))

    def messages(self) -> list[Any]:
        """Decode some of them, half a second apart or more; what cannot be decoded counts as damaged."""
        decoded = []
        for _, data in self._kept:
            try:
                decoded.append(self.read(data))
            except Exception as error:  # the middleware's or rosbags', whatever its parser ran into
                self.damaged[f"it is no {self.msgtype.rpartition('/')[2]} ({type(error).__name__})"] += 1
        return decoded


@dataclass
class Observation:
    """Everything that was seen.

    source: for people. types: of every topic that exists. offers: by topic, of those in `heard`, /tf and /tf_static.
    live: arrivals are of now, so that the age of a stamp means something. transforms: keeps every contradiction, early
    or late. transform_problems: what was wrong with transforms that could not be used. notes: what is wrong with the
    source itself. static_lost: child frames of static transforms that a replay of the bag by rosbag2 would lose.
    """

    source: str
    seconds: float
    live: bool
    types: dict[str, str] = field(default_factory=dict)
    offers: dict[str, list[QosOffer]] = field(default_factory=dict)
    heard: dict[str, Heard] = field(default_factory=dict)
    transforms: TransformBuffer = field(default_factory=lambda: TransformBuffer(clock=lambda: 0.0))
    transform_problems: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    static_lost: list[str] = field(default_factory=list)

    def of_type(self, *msgtypes: str) -> list[str]:
        """List the topics of these types, by name."""
        return sorted(topic for topic, msgtype in self.types.items() if msgtype in msgtypes)

    def take_transforms(self, message: Any, static: bool) -> None:
        """Add a tf2_msgs/TFMessage."""
        self.transform_problems.update(self.transforms.insert_message(message, static))

    def refuse_transforms(self, kind: str, text: str) -> None:
        """Note why a message of transforms could not be read."""
        self.transform_problems[kind] += 1

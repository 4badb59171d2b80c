"""What was seen of topics, live or in a bag: every message's header, and some of the messages. Needs no ROS."""

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vexkd_ros.health.qos_match import QosOffer
from vexkd_ros.inputs.transforms import TransformBuffer

CLOUD, IMAGE, COMPRESSED, INFO, TF = (
    "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage")  # fmt: skip
SENSORS = (CLOUD, IMAGE, COMPRESSED, INFO)  # each begins with a std_msgs/Header
HEADER = struct.Struct("iII")  # after CDR's encapsulation: seconds, nanoseconds, length of frame_id
KEEP_S = 0.5  # between two messages that are kept
KEPT = {CLOUD: 20, IMAGE: 6, COMPRESSED: 6, INFO: 2}  # at most, of a topic


@dataclass
class Heard:
    """One sensor's topic. arrivals [s]: by the clock of whoever received or recorded. stamps [ns] and frames: of the
    messages' headers. read: serialised message → message."""

    topic: str
    msgtype: str
    read: Callable[[bytes], Any]
    arrivals: list[float] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    frames: Counter[str] = field(default_factory=Counter)
    _kept: list[tuple[float, bytes]] = field(default_factory=list)

    def take(self, arrival_s: float, data: bytes) -> None:
        """A message, serialised as CDR."""
        seconds, nanoseconds, length = struct.unpack_from(("<" if data[1] & 1 else ">") + HEADER.format, data, 4)
        begin = 4 + HEADER.size
        self.arrivals.append(arrival_s)
        self.stamps.append(seconds * 10**9 + nanoseconds)
        self.frames[bytes(data[begin : begin + length]).rstrip(b"\0").decode(errors="replace")] += 1
        if len(self._kept) < KEPT[self.msgtype] and (not self._kept or arrival_s - self._kept[-1][0] >= KEEP_S):
            self._kept.append((arrival_s, bytes(data)))

    def messages(self) -> list[Any]:
        """Some of them, half a second apart or more."""
        return [self.read(data) for _, data in self._kept]


@dataclass
class Observation:
    """source: for people. types: of every topic that exists. offers: by topic, of those in `heard`, /tf and /tf_static.
    live: arrivals are of now, so that the age of a stamp means something. transform_problems: what was wrong with
    transforms that could not be used."""

    source: str
    seconds: float
    live: bool
    types: dict[str, str] = field(default_factory=dict)
    offers: dict[str, list[QosOffer]] = field(default_factory=dict)
    heard: dict[str, Heard] = field(default_factory=dict)
    transforms: TransformBuffer = field(default_factory=TransformBuffer)
    transform_problems: Counter[str] = field(default_factory=Counter)

    def of_type(self, *msgtypes: str) -> list[str]:
        """Topics of these types, by name."""
        return sorted(topic for topic, msgtype in self.types.items() if msgtype in msgtypes)

    def take_transforms(self, message: Any, static: bool) -> None:
        self.transform_problems.update(self.transforms.insert_message(message, static))

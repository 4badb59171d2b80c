"""Recording to be viewed: messages of one moment together, and how the vehicle moved. Needs no ROS."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection

from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import inverse, matrix_from_pose
from vexkd_model.progress import progress
from vexkd_model.types import MAP_CLASSES
from vexkd_ros.bags.reading import Bag, header_stamp_ns, open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.inputs.errors import TransformUnavailable
from vexkd_ros.inputs.transforms import TransformBuffer

GROUND_TRUTH, KEYFRAME = "/ground_truth", "/keyframe"
IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
TOGETHER_NS = 100_000_000  # what is further apart in time is not of one moment
MARKERS_HEADER = 8  # in a MarkerArray, the number of markers comes before the first marker's header


@dataclass(frozen=True)
class Moment:
    """Messages of one time, by topic, decoded; of each topic the one nearest to `stamp_ns`, where it is near enough."""

    stamp_ns: int
    messages: dict[str, Any]


@dataclass
class Recording:
    """Content of bags. camera_info: the newest of each topic. transforms: (message, whether static)."""

    moments: list[Moment] = field(default_factory=list)
    camera_info: dict[str, Any] = field(default_factory=dict)
    transforms: list[tuple[Any, bool]] = field(default_factory=list)


def read_recording(bags: Sequence[Path], node: str, points: str, most: int, tf: str) -> Recording:
    """Read at most `most` moments, evenly chosen, in the order of time. UserError where there is nothing to see.

    node: of the student, "/student_node". points: topic of the clouds. tf: of the transforms, beside tf + "_static".
    """
    with ExitStack() as opened:
        readers = [opened.enter_context(open_bag(bag)) for bag in bags]
        stamps: dict[str, set[int]] = defaultdict(set)
        for connection, stamp, _ in _stamped(readers, node, points, "look for moments"):
            stamps[connection.topic].add(stamp)
        wanted = _choose(stamps, node, points, most)
        if not wanted:
            raise UserError(
                f"{', '.join(map(str, bags))}: nothing to see on {GROUND_TRUTH}, {node}/detections or "
                f"{points}; name the student with --node and the clouds with --points"
            )
        return _read(readers, node, points, wanted, tf)


def _choose(stamps: dict[str, set[int]], node: str, points: str, most: int) -> dict[int, dict[str, int]]:
    """Choose moments; return stamp of each → stamp of the nearest message by topic."""
    leading = next((stamps[topic] for topic in (GROUND_TRUTH, f"{node}/detections", points) if stamps.get(topic)), ())
    moments = sorted(leading)
    moments = moments[:: -(-len(moments) // most)] if moments else []
    nearest = {
        moment: {topic: min(found, key=lambda stamp: abs(stamp - moment)) for topic, found in stamps.items()}
        for moment in moments
    }
    return {
        moment: {topic: stamp for topic, stamp in found.items() if abs(stamp - moment) <= TOGETHER_NS}
        for moment, found in nearest.items()
    }


def _read(readers: list[Bag], node: str, points: str, wanted: dict[int, dict[str, int]], tf: str) -> Recording:
    recording, needed = Recording(), {item for found in wanted.values() for item in found.items()}
    messages, is_static = {}, {tf: False, f"{tf}_static": True}
    for connection, stamp, data in _stamped(readers, node, points, "read what belongs to them"):
        if (connection.topic, stamp) in needed:
            messages[connection.topic, stamp] = bag_typestore().deserialize_cdr(data, connection.msgtype)
    for reader in readers:
        others = [c for c in reader.connections if c.topic in is_static or c.topic.endswith("/camera_info")]
        for connection, _, data in reader.messages(others):
            message = bag_typestore().deserialize_cdr(data, connection.msgtype)
            if connection.topic in is_static:
                recording.transforms.append((message, is_static[connection.topic]))
            else:
                recording.camera_info[connection.topic] = message
    recording.moments = [
        Moment(moment, {topic: messages[topic, stamp] for topic, stamp in found.items()})
        for moment, found in wanted.items()
    ]
    return recording


def _stamped(readers: list[Bag], node: str, points: str, label: str) -> Iterator[tuple[Connection, int, bytes]]:
    """Yield (connection, header stamp, bytes) of every message that may be shown."""
    maps = {f"{prefix}/map/{name}" for prefix in (node, GROUND_TRUTH) for name in MAP_CLASSES}
    shown = {GROUND_TRUTH, KEYFRAME, points, f"{node}/detections", f"{node}/markers", *maps}
    for number, reader in enumerate(readers, 1):
        chosen = [
            c
            for c in reader.connections
            if c.topic in shown or (c.msgtype in IMAGES and not c.topic.startswith(f"{node}/"))
        ]
        total = sum(connection.msgcount for connection in chosen)
        messages = reader.messages(chosen) if chosen else ()
        for connection, _, data in progress(messages, f"{label} ({number}/{len(readers)})", total, "messages"):
            offset = MARKERS_HEADER if connection.topic == f"{node}/markers" else 4
            yield connection, header_stamp_ns(data, offset), data


BASE, ODOM = "base_link", "odom"


class RecordedPoses:
    """Mounting and motion, of all times. transforms: (tf2_msgs/TFMessage, whether it came on /tf_static)."""

    def __init__(self, transforms: list[tuple[Any, bool]]) -> None:
        self._static = TransformBuffer()
        self._odom_from_base: dict[int, np.ndarray] = {}  # a TransformBuffer forgets what is older than seconds
        for message, static in transforms:
            if static:
                self._static.insert_message(message, static=True)
                continue
            for stamped in message.transforms:
                if (stamped.header.frame_id, stamped.child_frame_id) == (ODOM, BASE):
                    t, q = stamped.transform.translation, stamped.transform.rotation
                    stamp = stamped.header.stamp.sec * 10**9 + stamped.header.stamp.nanosec
                    self._odom_from_base[stamp] = matrix_from_pose((t.x, t.y, t.z), (q.w, q.x, q.y, q.z))
        self._stamps = sorted(self._odom_from_base)

    def mount(self, frame: str) -> np.ndarray | None:
        """Return (4, 4) base_link from a sensor's frame; None where /tf_static does not tell."""
        try:
            return self._static.lookup(BASE, frame, 0)
        except TransformUnavailable:
            return None

    def moved(self, then_ns: int, now_ns: int) -> np.ndarray:
        """Return (4, 4) base_link at `now_ns` from that at `then_ns`; without odometry the vehicle stands."""
        if not self._stamps:
            return np.eye(4)
        return inverse(self._pose(now_ns)) @ self._pose(then_ns)

    def _pose(self, stamp_ns: int) -> np.ndarray:
        """Find the pose nearest in time: bags of ours have one at every sensor's stamp."""
        after = bisect_left(self._stamps, stamp_ns)
        return self._odom_from_base[
            min(self._stamps[max(after - 1, 0) : after + 1], key=lambda stamp: abs(stamp - stamp_ns))
        ]

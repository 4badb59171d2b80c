"""Recording to be viewed: messages of one moment together, and how the vehicle moved. Needs no ROS."""

import re
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

GROUND_TRUTH, POINTS, TF = "/ground_truth", "/lidar/points", "/tf"
CLOUD = "sensor_msgs/msg/PointCloud2"
IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
TOGETHER_NS = 100_000_000  # what is further apart in time is not of one moment
MARKERS_HEADER = 8  # in a MarkerArray, the number of markers comes before the first marker's header
OUTPUT = re.compile(rf"(.+)/(?:detections|map/{MAP_CLASSES[0]})")  # of a student node


@dataclass(frozen=True)
class Moment:
    """Messages of one time, by topic, decoded; of each topic the one nearest to `stamp_ns`, where it is near enough.

    bag: name of the bag that the moment was found in.
    """

    stamp_ns: int
    bag: str
    messages: dict[str, Any]


@dataclass
class Recording:
    """Content of bags.

    nodes: names of student nodes whose outputs are there. points: topic of the clouds; no bag need have it.
    topics: of each bag. camera_info: the newest of each topic. transforms: (message, whether static).
    """

    nodes: tuple[str, ...]
    points: str
    topics: dict[Path, frozenset[str]]
    moments: list[Moment] = field(default_factory=list)
    camera_info: dict[str, Any] = field(default_factory=dict)
    transforms: list[tuple[Any, bool]] = field(default_factory=list)


def read_recording(
    bags: Sequence[Path], nodes: Sequence[str] | None, points: str | None, most: int, tf: str = TF
) -> Recording:
    """Read at most `most` moments, evenly chosen, in the order of time. UserError where there is nothing to see.

    nodes: of students, "/student_node"; None for all whose outputs the bags hold. points: topic of the clouds; None for
    /lidar/points, or the only one. tf: of the transforms, beside tf + "_static".
    """
    with ExitStack() as opened:
        readers = [opened.enter_context(open_bag(bag)) for bag in bags]
        types = {connection.topic: connection.msgtype for reader in readers for connection in reader.connections}
        recording = Recording(
            _choose_nodes(types, nodes),
            _choose_cloud(types, points),
            {reader.path: frozenset(connection.topic for connection in reader.connections) for reader in readers},
        )
        stamps: dict[str, dict[int, str]] = defaultdict(dict)
        for reader, connection, stamp, _ in _stamped(readers, recording, "look for moments"):
            stamps[connection.topic][stamp] = reader.path.name
        _read(readers, recording, stamps, most, tf)
    if not recording.moments:
        there = ", ".join(sorted(types)) or "nothing"
        raise UserError(
            f"{', '.join(map(str, bags))}: nothing to see: no {recording.points}, no {GROUND_TRUTH} and no student's "
            f"detections among {there}"
        )
    return recording


def _choose_nodes(types: dict[str, str], wanted: Sequence[str] | None) -> tuple[str, ...]:
    found = {match[1] for topic in types if (match := OUTPUT.fullmatch(topic))} - {GROUND_TRUTH}
    for name in wanted or ():
        if name not in found:
            raise UserError(
                f"--node {name}: published nothing here; there is {', '.join(sorted(found)) or 'no student'}"
            )
    return tuple(sorted(found)) if wanted is None else tuple(wanted)


def _choose_cloud(types: dict[str, str], wanted: str | None) -> str:
    found = sorted(topic for topic, kind in types.items() if kind == CLOUD)
    if wanted is not None and wanted not in found:
        raise UserError(f"--points {wanted}: no point clouds of that name; there is {', '.join(found) or 'none'}")
    if wanted is None and POINTS not in found and len(found) > 1:
        raise UserError(f"several topics of point clouds: choose one of {', '.join(found)} with --points")
    return wanted or (POINTS if POINTS in found or not found else found[0])


def _choose_moments(stamps: dict[str, dict[int, str]], recording: Recording, most: int) -> dict[int, dict[str, int]]:
    """Choose moments; return stamp of each → stamp of the nearest message by topic."""
    cameras = [topic for topic in sorted(stamps) if topic.endswith(("/image", "/compressed"))]
    leading = (GROUND_TRUTH, *(f"{node}/detections" for node in recording.nodes), recording.points, *cameras)
    moments = sorted(next((stamps[topic] for topic in leading if stamps.get(topic)), ()))
    moments = moments[:: -(-len(moments) // most)] if moments else []
    nearest = {
        moment: {topic: min(found, key=lambda stamp: abs(stamp - moment)) for topic, found in stamps.items()}
        for moment in moments
    }
    return {
        moment: {topic: stamp for topic, stamp in found.items() if abs(stamp - moment) <= TOGETHER_NS}
        for moment, found in nearest.items()
    }


def _read(readers: list[Bag], recording: Recording, stamps: dict[str, dict[int, str]], most: int, tf: str) -> None:
    wanted = _choose_moments(stamps, recording, most)
    needed = {item for found in wanted.values() for item in found.items()}
    messages, is_static = {}, {tf: False, f"{tf}_static": True}
    for _, connection, stamp, data in _stamped(readers, recording, "read what belongs to them"):
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
    for moment, found in wanted.items():
        origin = next(topic for topic in (GROUND_TRUTH, recording.points, *found) if topic in found)
        recording.moments.append(
            Moment(
                moment, stamps[origin][found[origin]], {topic: messages[topic, stamp] for topic, stamp in found.items()}
            )
        )


def _stamped(readers: list[Bag], recording: Recording, label: str) -> Iterator[tuple[Bag, Connection, int, bytes]]:
    """Yield (bag, connection, header stamp, bytes) of every message that may be shown."""
    nodes = recording.nodes
    markers, latencies = {f"{node}/markers" for node in nodes}, {f"{node}/debug/latency" for node in nodes}
    maps = {f"{prefix}/map/{name}" for prefix in (*nodes, GROUND_TRUTH) for name in MAP_CLASSES}
    detections = {f"{node}/detections" for node in nodes}
    shown = {GROUND_TRUTH, recording.points} | detections | markers | latencies | maps
    for number, reader in enumerate(readers, 1):
        chosen = [
            c
            for c in reader.connections
            if c.topic in shown or (c.msgtype in IMAGES and not c.topic.startswith(tuple(f"{n}/" for n in nodes)))
        ]
        total = sum(connection.msgcount for connection in chosen)
        messages = progress(reader.messages(chosen), f"{label} ({number}/{len(readers)})", total, "messages")
        for connection, _, data in messages:
            yield reader, connection, header_stamp_ns(data, MARKERS_HEADER if connection.topic in markers else 4), data


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
        return inverse(self.odom_from_base(now_ns)) @ self.odom_from_base(then_ns)

    def odom_from_base(self, stamp_ns: int) -> np.ndarray:
        """Return the (4, 4) pose nearest in time: bags of ours have one at every sensor's stamp. Identity if none."""
        if not self._stamps:
            return np.eye(4)
        after = bisect_left(self._stamps, stamp_ns)
        return self._odom_from_base[
            min(self._stamps[max(after - 1, 0) : after + 1], key=lambda stamp: abs(stamp - stamp_ns))
        ]

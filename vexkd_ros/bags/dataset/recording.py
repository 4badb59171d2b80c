"""Recording: what a bag holds beside points and pixels, read before anything is written."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection

from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import matrix_from_pose, quaternion_from_matrix
from vexkd_ros.bags.dataset.wiring import Wiring
from vexkd_ros.bags.reading import Bag, open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.doctor.observation import INFO, SENSORS, TF, Heard, Observation
from vexkd_ros.inputs.errors import TransformUnavailable
from vexkd_ros.inputs.poses import Poses
from vexkd_ros.inputs.transforms import TransformBuffer

ODOMETRY, DETECTIONS = "nav_msgs/msg/Odometry", "vision_msgs/msg/Detection3DArray"
LONGEST_GAP_NS = 10**9  # between two poses of the vehicle, in which it may have gone anywhere


@dataclass
class Recording:
    """Bag that was read once.

    seen: of all sensors, as the doctor takes it, with transforms that reach back to the begin. infos: by topic, each
    CameraInfo that differs from the one before and its stamp [ns]. annotations: Detection3DArray with their stamps.
    """

    bag: Path
    wiring: Wiring
    seen: Observation
    infos: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    annotations: list[tuple[int, Any]] = field(default_factory=list)
    _parents: dict[str, str] = field(default_factory=dict)
    _moved: dict[str, list[int]] = field(default_factory=dict)  # stamps by child frame, of those that move

    def heard(self, topic: str) -> Heard:
        return self.seen.heard[topic]

    def frame(self, topic: str) -> str:
        """Return the frame_id of a sensor's messages."""
        return self.heard(topic).frames.most_common(1)[0][0]

    def info(self, topic: str, stamp_ns: int) -> Any:
        """Return the CameraInfo that counts at a time: the last one until then, or else the first."""
        infos = self.infos[topic]
        return infos[max(bisect_left(infos, stamp_ns + 1, key=lambda one: one[0]) - 1, 0)][1]

    def pause_at(self, stamp_ns: int) -> float:
        """Return the seconds between the two poses of the vehicle around a time where they are too many, or 0."""
        child = self.wiring.base_frame
        while child in self._parents and child != self.wiring.odom_frame:
            stamps = self._moved.get(child, [])
            i = bisect_left(stamps, stamp_ns)
            if 0 < i < len(stamps) and stamps[i] != stamp_ns and stamps[i] - stamps[i - 1] > LONGEST_GAP_NS:
                return (stamps[i] - stamps[i - 1]) * 1e-9
            child = self._parents[child]
        return 0.0

    def take_transforms(self, message: Any, static: bool) -> None:
        """Add a tf2_msgs/TFMessage."""
        self.seen.take_transforms(message, static)
        for one in message.transforms:
            self._parents[one.child_frame_id] = one.header.frame_id
            if not static:
                self._moved.setdefault(one.child_frame_id, []).append(_stamp_ns(one.header))

    def take_odometry(self, messages: Sequence[Any]) -> None:
        """Add nav_msgs/Odometry as odom_frame → base_frame, whatever frame its poses are of. Raises UserError."""
        odom, base = self.wiring.odom_frame, self.wiring.base_frame
        for message in messages:
            stamp, child = _stamp_ns(message.header), message.child_frame_id or base
            try:
                odom_from_base = pose_matrix(message.pose.pose) @ self.seen.transforms.lookup(child, base, stamp)
                self.seen.transforms.insert(
                    odom, base, stamp, odom_from_base[:3, 3].tolist(), quaternion_from_matrix(odom_from_base).tolist()
                )
            except (TransformUnavailable, ValueError) as error:
                raise UserError(f"{self.bag}: {self.wiring.odometry}: {error}") from None
        self._parents[base] = odom
        self._moved[base] = sorted(_stamp_ns(message.header) for message in messages)


def read_recording(bag: Path, wiring: Wiring) -> Recording:
    """Read stamps, frames, transforms, calibrations and annotations of a bag; UserError where it holds nothing."""
    with open_bag(bag) as reader:
        if not reader.message_count:
            raise UserError(f"{bag}: holds no messages; record it again")
        transforms = TransformBuffer(poses=lambda: Poses(math.inf), clock=lambda: 0.0)
        seen = Observation(
            str(bag), reader.duration * 1e-9, live=False, transforms=transforms, notes=list(reader.notes)
        )
        seen.types = {connection.topic: connection.msgtype for connection in reader.connections}
        recording = Recording(Path(bag), wiring, seen)
        odometry = _take_messages(reader, recording)
    recording.annotations.sort(key=lambda one: one[0])
    for infos in recording.infos.values():
        infos.sort(key=lambda one: one[0])
    for stamps in recording._moved.values():
        stamps.sort()
    if odometry:
        recording.take_odometry(odometry)
    return recording


def _take_messages(reader: Bag, recording: Recording) -> list[Any]:
    """Go through the bag; return its odometry."""
    wiring, store, seen, odometry = recording.wiring, bag_typestore(), recording.seen, []
    known_infos: dict[str, bytes] = {}
    static = f"{wiring.tf}_static"
    for connection, stamp, data in reader.messages(list(_wanted(reader.connections, wiring))):
        topic, msgtype = connection.topic, connection.msgtype
        if msgtype in SENSORS:
            heard = seen.heard.setdefault(
                topic, Heard(topic, msgtype, partial(store.deserialize_cdr, typename=msgtype))
            )
            heard.note(stamp * 1e-9, data)
            if msgtype != INFO or known_infos.get(topic) == _but_its_stamp(data):
                continue
            known_infos[topic] = _but_its_stamp(data)
        try:
            message: Any = store.deserialize_cdr(data, msgtype)
        except Exception as error:  # rosbags' parsers run into whatever is damaged
            reason = f"a message is no {msgtype.rpartition('/')[2]} ({type(error).__name__}); mend who publishes it"
            seen.refuse_transforms(reason, reason) if msgtype == TF else seen.notes.append(f"{topic}: {reason}")
            continue
        if msgtype == TF:
            recording.take_transforms(message, topic == static)
        elif msgtype == INFO:
            recording.infos.setdefault(topic, []).append((_stamp_ns(message.header), message))
        elif msgtype == ODOMETRY:
            odometry.append(message)
        else:
            recording.annotations.append((_stamp_ns(message.header), message))
    return odometry


def _wanted(connections: Sequence[Connection], wiring: Wiring) -> Iterator[Connection]:
    sensors = {topic for lidar in wiring.lidars.values() for topic in lidar.points}
    sensors |= {topic for camera in wiring.cameras.values() for topic in (camera.image, camera.info)}
    types = {
        **dict.fromkeys(sensors, SENSORS),
        wiring.tf: (TF,),
        f"{wiring.tf}_static": (TF,),
        wiring.odometry: (ODOMETRY,),
        wiring.annotations.topic if wiring.annotations else None: (DETECTIONS,),
    }
    return (one for one in connections if one.msgtype in types.get(one.topic, ()))


def _but_its_stamp(data: bytes) -> bytes:
    return bytes(data[:4]) + bytes(data[12:])


def pose_matrix(pose: Any) -> np.ndarray:
    """Convert a geometry_msgs/Pose of a child frame to float64 (4, 4) `parent_from_child`."""
    at, turn = pose.position, pose.orientation
    return matrix_from_pose((at.x, at.y, at.z), (turn.w, turn.x, turn.y, turn.z))


def _stamp_ns(header: Any) -> int:
    """Return the stamp of a std_msgs/Header."""
    return header.stamp.sec * 10**9 + header.stamp.nanosec

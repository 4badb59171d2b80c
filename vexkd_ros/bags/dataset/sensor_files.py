"""Sensors' files of one bag: its messages, converted one by one to where the plan wants them."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vexkd_model.data.splits import LIDAR
from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_ros.bags.dataset.annotations import AnnotatedBox, count_points
from vexkd_ros.bags.dataset.clouds import cloud_file, merged
from vexkd_ros.bags.dataset.pictures import PictureFormat, picture_file
from vexkd_ros.bags.dataset.plan import Capture, Plan
from vexkd_ros.bags.dataset.recording import Recording
from vexkd_ros.bags.dataset.wiring import CameraWiring, LidarWiring
from vexkd_ros.bags.reading import header_stamp_ns, open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.inputs.errors import InputError
from vexkd_ros.inputs.images import SampleDepth


@dataclass(frozen=True)
class Written:
    """File of a capture. filename: inside the dataset. size: (width, height) of an image [px]. intrinsics: of a camera,
    the rows of a (3, 3). lidar_points: in each annotated box, of a keyframe of the LiDAR."""

    capture: Capture
    filename: str
    fileformat: str
    size: tuple[int, int] = (0, 0)
    intrinsics: tuple[tuple[float, ...], ...] = ()
    lidar_points: tuple[int, ...] = ()


class SensorFiles:
    """Writer of a bag's files below `folder`. prefix: of their names. boxes: annotated, by the keyframe's stamp."""

    def __init__(
        self,
        recording: Recording,
        folder: Path,
        prefix: str,
        pictures: PictureFormat,
        boxes: Mapping[int, list[AnnotatedBox]],
    ) -> None:
        self._recording, self._folder, self._prefix, self._pictures = recording, folder, prefix, pictures
        self._boxes, self._depths = boxes, {name: SampleDepth() for name in recording.wiring.cameras}
        self._clouds: dict[tuple[str, int], dict[str, np.ndarray]] = {}  # of captures that wait for others' clouds

    def write(self, plan: Plan, label: str | None) -> list[Written]:
        """Write every capture; print what could not be, and why. label: of the progress that is shown, if any.

        UserError where nothing of a sensor is left.
        """
        due = {
            message: capture
            for captures in plan.captures.values()
            for capture in captures
            for message in capture.messages
        }
        written: list[Written] = []
        problems: dict[str, Counter[str]] = {name: Counter() for name in plan.captures}
        for capture, topic, message in self._messages(due, label):
            try:
                file = self._convert(capture, topic, message)
            except InputError as error:
                problems[capture.channel][f"{topic}: {error.kind}"] += 1
                continue
            written += [file] if file else []
        written += [
            self._write_cloud(capture, self._clouds.pop(_key(capture)))
            for captures in plan.captures.values()
            for capture in captures
            if capture.messages[0][0] in self._clouds.get(_key(capture), ())
        ]
        for name, reasons in problems.items():
            for reason, count in reasons.items():
                if not any(file.capture.channel == name for file in written):
                    raise UserError(f"{self._recording.bag}: {reason}")
                print(f"{self._recording.bag}: {reason} ({count} messages are left out)", file=sys.stderr)
        return written

    def _messages(self, due: dict[tuple[str, int], Capture], label: str | None) -> Iterator[tuple[Capture, str, Any]]:
        """Read the messages that the plan wants, each once."""
        store, topics = bag_typestore(), {topic for topic, _ in due}
        with open_bag(self._recording.bag) as reader:
            wanted = [connection for connection in reader.connections if connection.topic in topics]
            messages = reader.messages(wanted)
            total = sum(connection.msgcount for connection in wanted)
            for connection, _, data in progress(messages, label, total, "messages") if label else messages:
                capture = due.pop((connection.topic, header_stamp_ns(data)), None)
                if capture is None:
                    continue
                try:
                    message = store.deserialize_cdr(data, connection.msgtype)
                except Exception:  # rosbags' parsers run into whatever is damaged; the doctor's checks have named it
                    continue
                yield capture, connection.topic, message

    def _convert(self, capture: Capture, topic: str, message: Any) -> Written | None:
        """Convert a message; None while clouds of other LiDARs are missing. Raises InputError."""
        wiring = self._recording.wiring.sensors[capture.channel]
        if isinstance(wiring, CameraWiring):
            return self._write_picture(capture, wiring, message)
        assert isinstance(wiring, LidarWiring)
        clouds = self._clouds.setdefault(_key(capture), {})
        clouds[topic] = cloud_file(message, wiring)
        if len(clouds) < len(capture.messages):
            return None
        return self._write_cloud(capture, self._clouds.pop(_key(capture)))

    def _write_cloud(self, capture: Capture, clouds: dict[str, np.ndarray]) -> Written:
        parts = [
            (clouds[topic], transform)
            for (topic, _), transform in zip(capture.messages, capture.sensor_from, strict=True)
            if topic in clouds
        ]
        points = merged(*zip(*parts, strict=True))
        filename = self._save(capture, "pcd.bin", points.tofile)
        counts = ()
        if capture.channel == LIDAR and capture.stamp_ns == capture.keyframe_ns:
            odom_from_sensor = capture.odom_from_base @ capture.base_from_sensor
            counts = tuple(
                count_points(points, odom_from_sensor, box) for box in self._boxes.get(capture.keyframe_ns, ())
            )
        return Written(capture, filename, "pcd", lidar_points=counts)

    def _write_picture(self, capture: Capture, wiring: CameraWiring, message: Any) -> Written:
        assert wiring.info is not None
        info = self._recording.info(wiring.info, capture.stamp_ns)
        picture = picture_file(message, info, self._depths[capture.channel], self._pictures)
        filename = self._save(capture, picture.suffix, lambda path: path.write_bytes(picture.content))
        return Written(capture, filename, picture.suffix, picture.size, tuple(map(tuple, picture.intrinsics.tolist())))

    def _save(self, capture: Capture, suffix: str, write: Callable[[Path], object]) -> str:
        name = file_name(self._prefix, capture.channel, capture.stamp_ns, capture.is_keyframe, suffix)
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        return name


def file_name(prefix: str, channel: str, stamp_ns: int, is_keyframe: bool, suffix: str) -> str:
    """Name a sensor's file inside the dataset, as nuScenes does."""
    kind = "samples" if is_keyframe else "sweeps"
    return f"{kind}/{channel}/{prefix}__{channel}__{stamp_ns // 1000}.{suffix}"


def _key(capture: Capture) -> tuple[str, int]:
    return capture.channel, capture.stamp_ns

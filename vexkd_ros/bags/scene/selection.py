"""Selection of what goes into a bag."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vexkd_model.data.splits import LIDAR
from vexkd_model.errors import UserError
from vexkd_ros.bags.scene.tables import Capture
from vexkd_ros.bags.scene.topics import (
    CAN_ODOMETRY,
    GPS,
    GROUND_TRUTH,
    GROUND_TRUTH_MAPS,
    GROUND_TRUTH_MARKERS,
    IMU,
    KEYFRAME,
    MAP_MARKERS,
    ODOMETRY,
    POINTS,
    TF,
    TF_STATIC,
    Topic,
    camera_info_topic,
    can_topic,
    image_topic,
    radar_topic,
)

CAN_MESSAGES = ("steeranglefeedback", "vehicle_monitor", "zoesensors", "zoe_veh_info")
CAN_TOPICS = (IMU, CAN_ODOMETRY, *map(can_topic, CAN_MESSAGES))
GENERAL = (
    TF_STATIC,
    MAP_MARKERS,
    TF,
    ODOMETRY,
    GPS,
    *CAN_TOPICS,
    KEYFRAME,
    GROUND_TRUTH,
    GROUND_TRUTH_MARKERS,
    *GROUND_TRUTH_MAPS,
)


@dataclass(frozen=True)
class Selection:
    """Part of a scene that goes into its bag.

    topics: patterns of names, of which one must match. sensors: channels whose data is taken, None for all; poses are
    those of all sensors. keyframes_only: no sensor data between keyframes. start_s, end_s: seconds after the scene's
    first capture, start included, end not.
    """

    topics: tuple[str, ...] = ("*",)
    sensors: tuple[str, ...] | None = None
    keyframes_only: bool = False
    start_s: float = 0.0
    end_s: float = math.inf

    def wants(self, topic: Topic) -> bool:
        return any(fnmatchcase(topic.name, pattern) for pattern in self.topics)

    def takes(self, channel: str, capture: Capture) -> bool:
        return (self.sensors is None or channel in self.sensors) and (capture.is_keyframe or not self.keyframes_only)

    def includes(self, seconds: float) -> bool:
        return self.start_s <= seconds < self.end_s

    def to_dict(self) -> dict:
        """Return the values for JSON, which knows no infinity."""
        return {
            "topics": list(self.topics),
            "sensors": self.sensors and list(self.sensors),
            "keyframes_only": self.keyframes_only,
            "start_s": self.start_s,
            "end_s": None if math.isinf(self.end_s) else self.end_s,
        }


def sensor_topics(channel: str) -> list[Topic]:
    """List the topics that hold a sensor's files; none for one that no topic is for, such as a second LiDAR."""
    if channel.startswith("CAM_"):
        return [camera_info_topic(channel), image_topic(channel)]
    if channel.startswith("RADAR_"):
        return [radar_topic(channel)]
    return [POINTS] if channel == LIDAR else []


def check_selection(selection: Selection, channels: Sequence[str]) -> None:
    """Raise UserError for a pattern that matches no topic of a dataset with these sensors, for a sensor that it lacks,
    for an empty time."""
    names = [topic.name for topic in (*GENERAL, *(topic for channel in channels for topic in sensor_topics(channel)))]
    for pattern in selection.topics:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"--topics {pattern}: matches none of {', '.join(names)}")
    for channel in selection.sensors or ():
        if channel not in channels:
            raise UserError(f"--sensors {channel}: no such sensor; there are {', '.join(channels)}")
    if not selection.start_s < selection.end_s:
        raise UserError(f"--end {selection.end_s:g}: not after --start {selection.start_s:g}")

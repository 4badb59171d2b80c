"""Timeline of a scene: all its messages in the order of time."""

from collections.abc import Iterator

from vexkd_model.errors import UserError
from vexkd_ros.bags.scene.annotations import annotation_messages
from vexkd_ros.bags.scene.can_bus import can_bus_messages
from vexkd_ros.bags.scene.maps import ground_truth_maps, map_markers
from vexkd_ros.bags.scene.poses import ego_transforms, odometry, positions_on_earth, static_transforms
from vexkd_ros.bags.scene.selection import Selection, sensor_topics
from vexkd_ros.bags.scene.sensors import camera_messages, lidar_messages, radar_messages
from vexkd_ros.bags.scene.tables import Capture, SceneRecord
from vexkd_ros.bags.scene.topics import Due


def timeline(scene: SceneRecord, selection: Selection) -> tuple[list[Due], list[str]]:
    """Order the selected messages by time; also say in a line of each sensor which files are missing.

    At equal stamps, transforms come before the data that needs them. What is latched comes first. UserError where not
    one file of the selected sensors is there, or nothing is left in the selected time.
    """
    files, missing = _present_files(scene, selection)
    everything, start_ns = [*_about_the_drive(scene), *_of_sensors(files)], scene.start_ns
    wanted = {topic for topic in {message.topic for message in everything} if selection.wants(topic)}
    due = [
        message
        for message in everything
        if message.topic in wanted and selection.includes((message.stamp_ns - start_ns) * 1e-9)
    ]
    if not due:
        raise UserError(f"{scene.name}: nothing of the selected topics, sensors and time is there")
    due.sort(key=lambda message: message.stamp_ns)
    first_ns = due[0].stamp_ns
    latched = (*static_transforms(scene, first_ns), *map_markers(scene, first_ns))
    return [message for message in latched if selection.wants(message.topic)] + due, missing


def _about_the_drive(scene: SceneRecord) -> Iterator[Due]:
    yield from ego_transforms(scene)
    yield from odometry(scene.lidar)
    yield from positions_on_earth(scene.location, scene.lidar)
    yield from can_bus_messages(scene)
    yield from annotation_messages(scene.keyframes)
    yield from ground_truth_maps(scene)


def _of_sensors(files: dict[str, tuple[Capture, ...]]) -> Iterator[Due]:
    for channel, captures in files.items():
        if channel.startswith("CAM_"):
            yield from camera_messages(channel, captures)
        elif channel.startswith("RADAR_"):
            yield from radar_messages(channel, captures)
        else:
            yield from lidar_messages(captures)


def _present_files(scene: SceneRecord, selection: Selection) -> tuple[dict[str, tuple[Capture, ...]], list[str]]:
    """Find the selected captures whose files are there, and say in a line which sensor lacks some.

    A dataset of which only some archives were unpacked is a dataset, too.
    """
    wanted = {
        channel: [capture for capture in captures if selection.takes(channel, capture)]
        for channel, captures in scene.sensors.items()
        if any(map(selection.wants, sensor_topics(channel)))
    }
    present, lines = {}, []
    for channel, captures in wanted.items():
        found = [(capture.path.exists(), capture) for capture in captures]
        present[channel] = tuple(capture for is_there, capture in found if is_there)
        missing = [capture for is_there, capture in found if not is_there]
        if missing:
            lines.append(
                f"{channel}: {len(missing)} of {len(captures)} files are not there (the first is "
                f"{missing[0].path}); left out"
            )
    if any(wanted.values()) and not any(present.values()):
        raise UserError(f"{scene.dataroot}: holds not one of {scene.name}'s sensor files; complete the download")
    return present, lines

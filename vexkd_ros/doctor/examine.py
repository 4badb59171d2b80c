"""Checks of one observation, in the order in which a message meets what they are about."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vexkd_model.config import ModelConfig
from vexkd_model.deploy.card import StudentCard
from vexkd_model.findings import FAIL, OK, WARN, Finding
from vexkd_model.sensor_check.monitor import FEWEST, SensorMonitor
from vexkd_ros.doctor.cameras import ANY_VIEW, check_camera, check_together
from vexkd_ros.doctor.clouds import check_clouds
from vexkd_ros.doctor.frames import check_conflicts, check_mounting, check_odometry, check_transform_topics
from vexkd_ros.doctor.observation import CLOUD, COMPRESSED, IMAGE, INFO, KEEP_S, Heard, Observation
from vexkd_ros.doctor.streams import check_stream

INFO_NAME = "camera_info"


@dataclass(frozen=True)
class Wiring:
    """Connections of a student. points: topic, None: the only one there is. cameras: nuScenes' channel → prefix of its
    topics, where it is not the channel's name in lower case. reliable: the node's input_reliability. tf: topic of the
    transforms; static ones are on TF_static."""

    points: str | None = None
    cameras: Mapping[str, str] | None = None
    base: str = "base_link"
    odom: str = "odom"
    reliable: bool = False
    tf: str = "/tf"


@dataclass(frozen=True)
class Student:
    """A student that is to run on the topics: its package's path, configuration and card."""

    package: Path
    config: ModelConfig
    card: StudentCard


def examine(seen: Observation, wiring: Wiring, student: Student | None) -> list[Finding]:
    """Make all checks for a student; without one, of whatever sensors there are."""
    config, card = (student.config, student.card) if student else (None, None)
    monitor = SensorMonitor(card.inputs, config, every_s=0) if config and card and card.inputs else None
    findings = [Finding(WARN, seen.source, note) for note in seen.notes] + check_transform_topics(seen, wiring.tf)
    lidar, cameras = wiring.points or seen.of_type(CLOUD), wiring.cameras or seen.of_type(INFO)
    if config.lidar if config else lidar:
        findings += _examine_lidar(seen, wiring, config, monitor)
    if config.camera if config else cameras:
        findings += _examine_cameras(seen, wiring, config, monitor)
    if not (config or lidar or cameras):
        findings.append(
            Finding(
                FAIL, seen.source, "neither point clouds nor camera_info: start the drivers, or compare ROS_DOMAIN_ID"
            )
        )
    findings += check_conflicts(seen, wiring.tf) + _damaged(seen)
    return findings + (_sensor_fit(seen, monitor, student) if student else [])


def _damaged(seen: Observation) -> list[Finding]:
    return [
        Finding(
            WARN if heard.stamps else FAIL,
            topic,
            f"{count} messages could not be read, {what}: mend who publishes it, or what damages it on its way",
        )
        for topic, heard in seen.heard.items()
        for what, count in heard.damaged.items()
    ]


def _examine_lidar(
    seen: Observation, wiring: Wiring, config: ModelConfig | None, monitor: SensorMonitor | None
) -> list[Finding]:
    topic, problem = points_topic(seen, wiring.points)
    if problem:
        return [problem]
    findings, heard = _usable(seen, topic, CLOUD, wiring)
    if heard is None:
        return findings
    findings += check_mounting(seen, heard, wiring.base)
    if config is None or config.sweeps > 1:
        findings += check_odometry(seen, heard, wiring.base, wiring.odom, "only the newest sweep is used")
    return findings + check_clouds(seen, heard, wiring.base, monitor)


def points_topic(seen: Observation, chosen: str | None) -> tuple[str, Finding | None]:
    """Find the LiDAR's topic, or say why there is none."""
    if chosen:
        return chosen, None
    clouds = [topic for topic in seen.of_type(CLOUD) if "radar" not in topic.lower()]
    if len(clouds) == 1 or "/points" in clouds:
        return ("/points" if "/points" in clouds else clouds[0]), None
    if not clouds:
        return "", Finding(
            FAIL, "points", "nobody publishes point clouds: start the LiDAR's driver, or compare ROS_DOMAIN_ID"
        )
    return "", Finding(FAIL, "points", f"{', '.join(clouds)} are point clouds: choose the LiDAR's with --points")


def _examine_cameras(
    seen: Observation, wiring: Wiring, config: ModelConfig | None, monitor: SensorMonitor | None
) -> list[Finding]:
    findings: list[Finding] = []
    images: dict[str, Heard] = {}
    prefixes = prefixes_of(seen, wiring, config)
    for name, prefix in prefixes.items():
        found, infos = _usable(seen, f"{prefix}/{INFO_NAME}", INFO, wiring)
        findings += found
        topic = _image_topic(seen, prefix)
        if topic is None:
            findings.append(
                Finding(
                    FAIL,
                    name,
                    f"no images on {prefix}/image or {prefix}/image/compressed: start the "
                    f"driver, or say where they are with --camera {name}=PREFIX",
                )
            )
            continue
        found, heard = _usable(seen, topic, seen.types[topic], wiring)
        findings += found
        if heard is None:
            continue
        images[name] = heard
        findings += check_mounting(seen, heard, wiring.base)
        if infos is not None:
            findings += check_camera(
                seen,
                heard,
                infos,
                name,
                wiring.base,
                monitor,
                config.camera.images if config and config.camera else ANY_VIEW,
            )
    if images:
        first = next(iter(images.values()))
        findings += check_together(list(images.values()))
        findings += check_odometry(seen, first, wiring.base, wiring.odom, "the way between images is not known")
    if config and len(images) < len(prefixes):
        missing = [name for name in prefixes if name not in images]
        findings.append(
            Finding(
                WARN if images else FAIL,
                "cameras",
                f"{len(images)} of the student's {len(prefixes)}, "
                f"without {', '.join(missing)}: it was trained with all of them",
            )
        )
    return findings


def prefixes_of(seen: Observation, wiring: Wiring, config: ModelConfig | None) -> dict[str, str]:
    """Find the prefix of topics by the camera's name; without a student, of every camera_info there is."""
    given = dict(wiring.cameras or {})
    if config and config.camera:
        return {name: given.get(name, f"/{name.lower()}") for name in config.camera.images.cameras}
    found = [topic.removesuffix(f"/{INFO_NAME}") for topic in seen.of_type(INFO)]
    return given | {prefix.strip("/").upper(): prefix for prefix in found if prefix not in given.values()}


def _image_topic(seen: Observation, prefix: str) -> str | None:
    """Find the images beside camera_info, by the node's names first."""
    there = [topic for topic in seen.of_type(IMAGE, COMPRESSED) if topic.startswith(f"{prefix}/")]
    known = [f"{prefix}/image/compressed", f"{prefix}/image"]
    return next((topic for topic in (*known, *there) if topic in there), None)


def _usable(seen: Observation, topic: str, msgtype: str, wiring: Wiring) -> tuple[list[Finding], Heard | None]:
    """Check a topic; return the findings and what was heard of it, None where that is nothing."""
    findings = check_stream(seen, topic, msgtype, wiring.reliable)
    heard = seen.heard.get(topic)
    return findings, heard if heard and heard.stamps and heard.msgtype == msgtype else None


def _sensor_fit(seen: Observation, monitor: SensorMonitor | None, student: Student) -> list[Finding]:
    if monitor is None:
        return [
            Finding(
                WARN,
                "sensor fit",
                f"the card of {student.package} does not say what its sensors were like: "
                "export the student again where its training data is",
            )
        ]
    findings = [Finding(FAIL, f"sensor fit, {found.sensor}", found.text) for found in monitor.mismatches]
    wrong = {found.sensor for found in monitor.mismatches}
    for sensor, moments in monitor.moments.items():
        if 0 < moments < FEWEST and not seen.live and seen.seconds < FEWEST * KEEP_S:
            findings.append(
                Finding(
                    OK,
                    f"sensor fit, {sensor}",
                    f"not compared: {seen.seconds:.1f} s hold fewer than {FEWEST} messages half a second apart",
                )
            )
        elif 0 < moments < FEWEST:  # why there are none has been said above
            findings.append(
                Finding(
                    WARN,
                    f"sensor fit, {sensor}",
                    f"{moments} messages half a second apart, at least {FEWEST} are needed: give more --seconds",
                )
            )
        elif moments and sensor not in wrong:
            findings.append(
                Finding(
                    OK, f"sensor fit, {sensor}", f"as in the training of {student.card.name}, by {moments} messages"
                )
            )
    return findings

"""Checks of a recording before anything is written of it, in the doctor's words."""

import sys

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.findings import FAIL, OK, Finding
from vexkd_ros.bags.dataset.recording import Recording
from vexkd_ros.doctor.cameras import check_camera
from vexkd_ros.doctor.clouds import check_clouds
from vexkd_ros.doctor.frames import check_conflicts, check_mounting, check_odometry, check_transform_topics
from vexkd_ros.doctor.observation import CLOUD, COMPRESSED, IMAGE, INFO
from vexkd_ros.doctor.streams import check_stream

JUMP_NS = 10**9  # further back than a late message


def check_recording(recording: Recording) -> None:
    """Print what is poorer than it should be; raise UserError for the first thing that keeps a sensor out."""
    seen, wiring = recording.seen, recording.wiring
    findings = check_transform_topics(seen, wiring.tf)
    _raise_first(recording, findings)
    for name, lidar in wiring.lidars.items():
        for topic in lidar.points:
            findings += _check_sensor(recording, name, topic, (CLOUD,))
            findings += _content(recording, check_clouds(seen, recording.heard(topic), wiring.base_frame, None))
    for name, camera in wiring.cameras.items():
        findings += _check_sensor(recording, name, camera.image, (IMAGE, COMPRESSED))
        images, infos = recording.heard(camera.image), recording.heard(_info_topic(recording, name, camera.info))
        findings += _content(recording, check_camera(seen, images, infos, name, wiring.base_frame, None))
    findings += check_conflicts(seen, wiring.tf)
    for line in dict.fromkeys(f"{found.about}: {found.text}" for found in findings if found.level != OK):
        print(f"{recording.bag}: {line}", file=sys.stderr)


def _content(recording: Recording, findings: list[Finding]) -> list[Finding]:
    """Return what was found in some messages of a topic; UserError where not one of them is as it should be."""
    if not any(found.level == OK for found in findings):
        _raise_first(recording, findings)
    return findings


def _check_sensor(recording: Recording, name: str, topic: str, types: tuple[str, ...]) -> list[Finding]:
    """Check that messages of a topic can be placed and used; UserError where none can."""
    seen, wiring = recording.seen, recording.wiring
    msgtype = seen.types.get(topic)
    others = ", ".join(seen.of_type(*types)) or "none"
    if msgtype not in types:
        what = f"is {msgtype}" if msgtype else "is not in the bag"
        kind = " or ".join(one.rpartition("/")[2] for one in types)
        raise UserError(
            f"{recording.bag}: {topic} {what}; topics of {kind}: {others}; correct {name} in the file of --sensors, "
            "or leave it out"
        )
    if topic not in seen.heard or not seen.heard[topic].stamps:
        damaged = ", ".join(seen.heard[topic].damaged) if topic in seen.heard else ""
        cure = f"all are damaged, {damaged}; mend who publishes it" if damaged else "record it, or leave the sensor out"
        raise UserError(f"{recording.bag}: {topic} has no usable message: {cure}")
    heard = recording.heard(topic)
    findings = check_stream(seen, topic, heard.msgtype, reliable=False)
    if len(heard.frames) > 1:
        frames = ", ".join(sorted(heard.frames))
        findings.append(Finding(FAIL, topic, f"frame_id changes between {frames}: stop one of two publishers"))
    back = int(np.diff(np.array(heard.stamps)).min(initial=0))
    if back < -JUMP_NS:
        findings.append(
            Finding(
                FAIL,
                topic,
                f"its stamps go back by {-back * 1e-9:.1f} s: two drives in one bag, or a clock that was set; "
                "cut the bag there",
            )
        )
    _raise_first(recording, findings)
    findings += check_mounting(seen, heard, wiring.base_frame)
    _raise_first(recording, findings)
    odometry = check_odometry(seen, heard, wiring.base_frame, wiring.odom_frame, "moments without it are left out")
    return findings + odometry


def _raise_first(recording: Recording, findings: list[Finding]) -> None:
    for found in findings:
        if found.level == FAIL:
            raise UserError(f"{recording.bag}: {found.about}: {found.text}")


def _info_topic(recording: Recording, name: str, topic: str | None) -> str:
    """Return the topic of a camera's CameraInfo; UserError where none of it can be used."""
    others = ", ".join(recording.seen.of_type(INFO)) or "none"
    if topic is None or recording.seen.types.get(topic) != INFO:
        raise UserError(
            f"{recording.bag}: {name} has no CameraInfo{f' on {topic}' if topic else ''}, topics of it: {others}; "
            "record it, name it as info in the file of --sensors, or leave the camera out"
        )
    if topic not in recording.infos:
        raise UserError(f"{recording.bag}: {topic} has no message: record it, or leave {name} out")
    return topic

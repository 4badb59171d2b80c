"""Guess of the wiring: which topics of a bag are which sensors, by their types, names and places on the vehicle."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vexkd_model.data.splits import LIDAR
from vexkd_model.errors import UserError
from vexkd_model.types import CAMERAS
from vexkd_ros.bags.dataset.clouds import guessed_intensity
from vexkd_ros.bags.dataset.recording import DETECTIONS, ODOMETRY
from vexkd_ros.bags.dataset.wiring import AnnotationWiring, CameraWiring, LidarWiring, Wiring
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.doctor.from_bag import observe_bag
from vexkd_ros.doctor.observation import CLOUD, COMPRESSED, IMAGE, INFO, TF, Heard, Observation
from vexkd_ros.inputs.errors import TransformUnavailable

SECONDS = 10.0  # of a bag that are looked at
BASES, ODOMS = ("base_link", "base_footprint"), ("odom", "map", "world")
TRUE = re.compile(r"truth|annot|label|(^|[/_])gt([/_]|$)")
NO_CAMERA = re.compile(r"depth|disparity|theora|mask|segment|thumb")
AZIMUTHS = dict(zip(CAMERAS, (55, 0, -55, 110, 180, -110), strict=True))  # of nuScenes' views [°]
NEAR_DEG = 40.0
WORDS = {"front": "FRONT", "forward": "FRONT", "rear": "BACK", "back": "BACK", "left": "LEFT", "right": "RIGHT"}


def guess_wiring(bag: Path) -> Wiring:
    """Guess from the first seconds of a bag; UserError where it holds neither clouds nor images."""
    types = _types(bag)
    tf = next((topic for topic in ("/tf", *sorted(types)) if types.get(topic) == TF and topic.endswith("/tf")), "/tf")
    seen = observe_bag(bag, SECONDS, tf)
    odometry = next((topic for topic in sorted(types) if types[topic] == ODOMETRY), None)
    its_odom, its_base = _frames_of_odometry(bag, odometry) if odometry else ("", "")
    lidars, images = _lidars(seen), _images(seen)
    if not lidars and not images:
        raise UserError(f"{bag}: holds neither PointCloud2 nor images; record the sensors' topics")
    heard = seen.heard[(lidars or images)[0]]
    frame, stamp = heard.frames.most_common(1)[0][0], heard.stamps[len(heard.stamps) // 2]
    base = _first_known(seen, (*BASES, its_base), frame, stamp) or its_base or BASES[0]
    odom = _first_known(seen, (*ODOMS, its_odom), base, stamp)
    sensors: dict[str, LidarWiring | CameraWiring] = {}
    if lidars:
        field, scale = guessed_intensity(seen.heard[lidars[0]])
        sensors[LIDAR] = LidarWiring(points=tuple(lidars), intensity_field=field, intensity_scale=scale)
    sensors |= _cameras(seen, images, base)
    truth = next((topic for topic in sorted(types) if types[topic] == DETECTIONS and TRUE.search(topic)), None)
    return Wiring(
        base_frame=base,
        odom_frame=odom or its_odom or ODOMS[0],
        tf=tf,
        odometry=None if odom else odometry,
        annotations=AnnotationWiring(topic=truth) if truth else None,
        sensors=sensors,
    )


def completed(wiring: Wiring, bag: Path) -> Wiring:
    """Fill in what a wiring leaves to the bag: where CameraInfo is, and the scale of intensities."""
    seen = observe_bag(bag, SECONDS, wiring.tf)
    sensors: dict[str, LidarWiring | CameraWiring] = {}
    for name, sensor in wiring.sensors.items():
        if isinstance(sensor, CameraWiring):
            sensors[name] = sensor if sensor.info else sensor.model_copy(update={"info": info_of(sensor.image, seen)})
        elif sensor.intensity_scale is None and seen.types.get(sensor.points[0]) == CLOUD:
            heard = seen.heard[sensor.points[0]]
            scale = guessed_intensity(heard, sensor.intensity_field)[1]
            sensors[name] = sensor.model_copy(update={"intensity_scale": scale})
        else:
            sensors[name] = sensor
    return wiring.model_copy(update={"sensors": sensors})


def info_of(image: str, seen: Observation) -> str | None:
    """Find the CameraInfo that lies beside an image's topic, or beside a folder above it."""
    infos, place = seen.of_type(INFO), image
    while place := place.rpartition("/")[0]:
        if f"{place}/camera_info" in infos:
            return f"{place}/camera_info"
    return None


def _types(bag: Path) -> dict[str, str]:
    with open_bag(bag) as reader:
        return {connection.topic: connection.msgtype for connection in reader.connections}


def _frames_of_odometry(bag: Path, topic: str) -> tuple[str, str]:
    with open_bag(bag) as reader:
        wanted = [connection for connection in reader.connections if connection.topic == topic]
        for connection, _, data in reader.messages(wanted):
            message: Any = bag_typestore().deserialize_cdr(data, connection.msgtype)
            return message.header.frame_id, message.child_frame_id
    return "", ""


def _first_known(seen: Observation, targets: Iterable[str], source: str, stamp: int) -> str | None:
    for target in targets:
        try:
            seen.transforms.lookup(target, source, stamp)
        except TransformUnavailable:
            continue
        if target and target != source:
            return target
    return None


def _lidars(seen: Observation) -> list[str]:
    """List one topic for each frame of clouds, that of most points; that of all topics with most points is first."""
    sizes: dict[str, tuple[int, str]] = {}
    for topic in seen.of_type(CLOUD):
        heard = seen.heard[topic]
        if "radar" not in topic.lower() and heard.stamps:
            points = max((message.width * message.height for message in heard.messages()), default=0)
            frame = heard.frames.most_common(1)[0][0]
            sizes[frame] = max(sizes.get(frame, (-1, "")), (points, topic))
    return [topic for _, topic in sorted(sizes.values(), key=lambda one: (-one[0], one[1]))]


def _images(seen: Observation) -> list[str]:
    """List one topic for each camera: compressed images before raw ones, for they can be copied."""
    best: dict[str, tuple[bool, str]] = {}
    for topic in seen.of_type(IMAGE, COMPRESSED):
        if NO_CAMERA.search(topic.lower()) or not seen.heard[topic].stamps:
            continue
        camera = info_of(topic, seen) or topic.removesuffix("/compressed")
        best[camera] = min(best.get(camera, (True, "~")), (seen.types[topic] != COMPRESSED, topic))
    return sorted(topic for _, topic in best.values())


def _cameras(seen: Observation, images: list[str], base: str) -> dict[str, CameraWiring]:
    """Name cameras by the words of their topics, or else by the direction that they look to."""
    names: dict[str, str] = {}
    for topic in images:
        name = _by_words(topic)
        if name and name not in names:
            names[name] = topic
    for topic in images:
        if topic not in names.values():
            free = {name: azimuth for name, azimuth in AZIMUTHS.items() if name not in names}
            names[_by_azimuth(seen, seen.heard[topic], base, free) or _own_name(topic)] = topic
    order = [*CAMERAS, *sorted(set(names) - set(CAMERAS))]
    return {name: CameraWiring(image=names[name], info=info_of(names[name], seen)) for name in order if name in names}


def _by_words(topic: str) -> str | None:
    found = {WORDS[word] for word in re.findall(r"[a-z]+", topic.lower()) if word in WORDS}
    sides = [[word for word in pair if word in found] for pair in (("FRONT", "BACK"), ("LEFT", "RIGHT"))]
    name = "_".join(["CAM", *(side[0] for side in sides if len(side) == 1)])
    return name if name in CAMERAS and all(len(side) < 2 for side in sides) else None


def _by_azimuth(seen: Observation, heard: Heard, base: str, free: dict[str, int]) -> str | None:
    frame = heard.frames.most_common(1)[0][0]
    try:
        ahead = seen.transforms.lookup(base, frame, heard.stamps[-1])[:3, 2]
    except TransformUnavailable:
        return None
    azimuth = math.degrees(math.atan2(ahead[1], ahead[0]))
    apart = {name: abs((azimuth - there + 180) % 360 - 180) for name, there in free.items()}
    name = min(apart, key=lambda name: apart[name], default=None)
    return name if name and apart[name] < NEAR_DEG else None


def _own_name(topic: str) -> str:
    parts = [part for part in topic.strip("/").split("/") if part not in ("compressed", "image", "image_raw")]
    return "CAM_" + re.sub(r"\W", "_", "_".join(parts) or "camera").upper()

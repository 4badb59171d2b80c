"""Wiring: which topic of the bags is which sensor of the dataset, in a YAML file."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from vexkd_model.config.reading import parse_section, read_mapping
from vexkd_model.config.section import Positive, Section
from vexkd_model.data.scene_tables import OFFICIAL_CATEGORIES
from vexkd_model.data.schema import CATEGORY_OF_CLASS
from vexkd_model.data.splits import LIDAR

BAG = "<bag>"  # in a path, in place of the bag's name
EXAMPLE = "sensors: {LIDAR_TOP: /lidar/points, CAM_FRONT: /cam_front/image_raw}"
Topic = Annotated[str, Field(pattern=r"^/\S+$")]


class LidarWiring(Section):
    """Topics of a LiDAR; several are merged, in the frame and at the stamps of the first.

    intensity_scale: None until a bag has told it. Scaled intensities beyond 0 … 255 are clipped.
    """

    points: Annotated[tuple[Topic, ...], Field(min_length=1)]
    intensity_field: str = "intensity"
    intensity_scale: Positive | None = None


class CameraWiring(Section):
    """Topics of a camera. info: None until a bag has told which CameraInfo lies beside the images."""

    image: Topic
    info: Topic | None = None


class AnnotationWiring(Section):
    """Annotations: on a topic of the bags, vision_msgs/Detection3DArray, or in files that an annotation tool wrote.

    path: of each bag's files, with <bag> in place of its name. format: None guesses it by the files. frame: of the
    boxes, a sensor of the wiring or a frame of TF; None is the LiDAR's. numbers: what numbers of frames count, from
    `first`. timestamps: of a file with the time of each frame, a line a frame, which numbers count instead.
    """

    topic: Topic | None = None
    path: str | None = None
    format: Literal["kitti", "sustechpoints", "datumaro"] | None = None
    frame: str | None = None
    numbers: Literal["clouds", "keyframes"] = "clouds"
    first: Annotated[int, Field(ge=0)] = 0
    timestamps: str | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "AnnotationWiring":
        if (self.topic is None) == (self.path is None):
            raise ValueError("needs either a topic, or the path of an annotation tool's files")
        if self.topic is not None and self != AnnotationWiring.model_construct(topic=self.topic):
            raise ValueError("a topic has no other keys; they are for files")
        for key, path in (("path", self.path), ("timestamps", self.timestamps)):
            if path is not None and BAG not in path:
                raise ValueError(f"{key}: must have {BAG} in it, in place of the bag's name: labels/{BAG}")
        if self.timestamps and self.numbers == "keyframes":
            raise ValueError("numbers count either keyframes or the lines of timestamps; leave one of the two out")
        return self

    @property
    def source(self) -> str:
        return self.topic or self.path or ""


class Wiring(Section):
    """Wiring of a vehicle.

    tf: transforms; the static ones are on tf + "_static". odometry: nav_msgs/Odometry that tells odom_frame →
    base_frame where transforms do not. annotations: where true ones are. classes: name of a class there → class or
    category of nuScenes, None to leave it out. location, vehicle: of the log.
    """

    base_frame: str = "base_link"
    odom_frame: str = "odom"
    tf: Topic = "/tf"
    odometry: Topic | None = None
    annotations: AnnotationWiring | None = None
    sensors: Annotated[dict[Annotated[str, Field(pattern=r"^\w+$")], LidarWiring | CameraWiring], Field(min_length=1)]
    classes: dict[str, str | None] = Field(default={})
    location: str = "unknown"
    vehicle: str = "vehicle"

    @model_validator(mode="after")
    def _has_a_reference(self) -> "Wiring":
        if self.lidars and LIDAR not in self.lidars:
            raise ValueError(f"sensors: call one LiDAR {LIDAR}: its stamps are those of the keyframes")
        if LIDAR in self.cameras:
            raise ValueError(f"sensors: {LIDAR} needs points, not image")
        topics = [topic for lidar in self.lidars.values() for topic in lidar.points]
        topics += [camera.image for camera in self.cameras.values()]
        twice = sorted({topic for topic in topics if topics.count(topic) > 1})
        if twice:
            raise ValueError(f"sensors: {twice[0]} belongs to two of them")
        possible = (*OFFICIAL_CATEGORIES, *CATEGORY_OF_CLASS)
        for own, name in self.classes.items():
            if name is not None and name not in possible:
                raise ValueError(f"classes: {own}: {name} is none of {', '.join((*CATEGORY_OF_CLASS, *possible))}")
        return self

    @property
    def lidars(self) -> dict[str, LidarWiring]:
        return {name: one for name, one in self.sensors.items() if isinstance(one, LidarWiring)}

    @property
    def cameras(self) -> dict[str, CameraWiring]:
        return {name: one for name, one in self.sensors.items() if isinstance(one, CameraWiring)}

    @property
    def reference(self) -> str:
        """Return the sensor whose stamps are the keyframes': the LiDAR, or else the first camera."""
        return LIDAR if self.lidars else next(iter(self.cameras))

    def main_topic(self, sensor: str) -> str:
        """Return the topic of a sensor's images, or of the clouds that others are merged with."""
        found = self.sensors[sensor]
        return found.image if isinstance(found, CameraWiring) else found.points[0]

    def category(self, name: str) -> str | None:
        """Return nuScenes' category of an annotated class, None where it is to be left out; KeyError of an unknown."""
        if name in self.classes:
            known = self.classes[name]
            return None if known is None else CATEGORY_OF_CLASS.get(known, known)
        return name if name in OFFICIAL_CATEGORIES else CATEGORY_OF_CLASS[name]


def read_wiring(path: Path) -> Wiring:
    """Read and check the file; UserError names what is wrong."""
    values = read_mapping(path, "wiring of sensors", "docs", f"your_data.md: {EXAMPLE}")
    sensors = values.get("sensors")
    if isinstance(sensors, dict):
        values |= {"sensors": {str(name): _long_form(str(name), value) for name, value in sensors.items()}}
    values |= {"annotations": _annotations(values.get("annotations"), Path(path).absolute().parent)}
    return parse_section(Wiring, values, str(path), "sensors")


def _long_form(name: str, value: Any) -> Any:
    """Write out LIDAR_TOP: /points and CAM_FRONT: /image."""
    if isinstance(value, str | list):
        value = {"points" if "LIDAR" in name.upper() else "image": value}
    if isinstance(value, dict) and isinstance(value.get("points"), str):
        value |= {"points": [value["points"]]}
    return value


def _annotations(value: Any, folder: Path) -> Any:
    """Write out annotations: /topic; make paths absolute, which are relative to the file's folder."""
    if isinstance(value, str):
        value = {"topic": value}
    if isinstance(value, dict):
        paths = {key: str(folder / value[key]) for key in ("path", "timestamps") if isinstance(value.get(key), str)}
        value = value | paths
    return value


def dump_wiring(wiring: Wiring) -> str:
    """Write the YAML that `read_wiring` reads back."""
    values = wiring.model_dump(mode="json", exclude_none=True)
    if wiring.annotations and wiring.annotations.topic:
        values["annotations"] = wiring.annotations.topic
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)

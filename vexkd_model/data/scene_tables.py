"""Rows of the nuScenes tables, for whatever writes a dataset: rows that every dataset shares, and rows of one scene."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vexkd_model.files import replace_folder, write_json
from vexkd_model.geometry.transforms import quaternion_from_matrix
from vexkd_model.types import ATTRIBUTE_NAMES

TABLES = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
)
OFFICIAL_CATEGORIES = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    "static_object.bicycle_rack",
)
VISIBILITIES = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}
Rows = dict[str, list[dict]]  # by table


def token(*name: object) -> str:
    """Token of a record, 32 hexadecimal digits: the same name gives the same token."""
    return hashlib.md5("/".join(map(str, name)).encode(), usedforsecurity=False).hexdigest()


def shared_tables(sensors: Mapping[str, str]) -> Rows:
    """Make the tables of categories, attributes, visibilities and sensors. sensors: channel → lidar or camera."""
    return {
        "category": [
            {"token": token("category", name), "name": name, "description": ""} for name in OFFICIAL_CATEGORIES
        ],
        "attribute": [{"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTE_NAMES],
        "visibility": [{"token": key, "level": level, "description": ""} for key, level in VISIBILITIES.items()],
        "sensor": [
            {"token": token("sensor", channel), "channel": channel, "modality": modality}
            for channel, modality in sensors.items()
        ],
    }


def write_tables(tables: Rows, folder: Path, unfinished: Path, others: Mapping[str, object]) -> None:
    """Write a file a table, and `others`, documents by file name, to `unfinished`; then move that to `folder`."""
    shutil.rmtree(unfinished, ignore_errors=True)
    for table, rows in tables.items():
        write_json(unfinished / f"{table}.json", rows, indent=None)
    for name, document in others.items():
        write_json(unfinished / name, document)
    replace_folder(unfinished, folder)


@dataclass(frozen=True)
class Drive:
    """Row of a log. logfile: name of the recording; every file name starts with it. date: 2018-07-01."""

    logfile: str
    vehicle: str
    date: str
    location: str


@dataclass(frozen=True)
class SensorFile:
    """File of a sensor, taken at stamp_us, that belongs to the keyframe at sample_us.

    calibration: token of its calibrated_sensor. size: (width, height) [px] of an image. translation [m], rotation
    (w, x, y, z): the vehicle's pose at stamp_us.
    """

    channel: str
    stamp_us: int
    sample_us: int
    is_keyframe: bool
    filename: str
    fileformat: str
    calibration: str
    translation: list[float]
    rotation: list[float]
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Annotation:
    """Box of an instance in the keyframe `number`.

    sample: token of the keyframe. translation [m], rotation (w, x, y, z): in the frame of the ego poses. size: width,
    length, height [m]. visibility, attribute: '' where unknown. score: of a box that a model made.
    """

    number: int
    sample: str
    translation: list[float]
    size: list[float]
    rotation: list[float]
    lidar_points: int
    visibility: str = ""
    attribute: str = ""
    score: float | None = None


@dataclass
class SceneTables:
    """Rows of one scene, collected in time order. source: makes the tokens of different datasets differ."""

    name: str
    source: object
    rows: Rows = field(default_factory=lambda: {name: [] for name in TABLES})

    def token(self, *what: object) -> str:
        return token(self.source, self.name, *what)

    def add_scene(self, drive: Drive, stamps_us: Sequence[int], description: str) -> None:
        """Add the log, the scene and its samples, one a keyframe."""
        samples = [self.token("sample", stamp) for stamp in stamps_us]
        log, scene = self.token("log"), self.token("scene")
        self.rows["log"].append(
            {
                "token": log,
                "logfile": drive.logfile,
                "vehicle": drive.vehicle,
                "date_captured": drive.date,
                "location": drive.location,
            }
        )
        self.rows["scene"].append(
            {
                "token": scene,
                "log_token": log,
                "nbr_samples": len(samples),
                "name": self.name,
                "first_sample_token": samples[0],
                "last_sample_token": samples[-1],
                "description": description,
            }
        )
        for i, stamp in enumerate(stamps_us):
            self.rows["sample"].append(
                {
                    "token": samples[i],
                    "timestamp": stamp,
                    "scene_token": scene,
                    "prev": samples[i - 1] if i else "",
                    "next": (*samples, "")[i + 1],
                }
            )

    def calibration(self, channel: str, base_from_sensor: np.ndarray, intrinsic: list[list[float]]) -> str:
        """Return the token of a sensor's calibration, float64 (4, 4) and the rows of a (3, 3) or none; a new one gets a
        row."""
        values = {
            "translation": base_from_sensor[:3, 3].tolist(),
            "rotation": quaternion_from_matrix(base_from_sensor).tolist(),
            "camera_intrinsic": intrinsic,
        }
        known = [row for row in self.rows["calibrated_sensor"] if row["sensor_token"] == token("sensor", channel)]
        for row in reversed(known):
            if values.items() <= row.items():
                return row["token"]
        own = self.token("calibrated_sensor", channel, *([len(known)] if known else []))
        self.rows["calibrated_sensor"].append({"token": own, "sensor_token": token("sensor", channel), **values})
        return own

    def add_file(self, file: SensorFile) -> None:
        """Add one file of a sensor and the ego pose at its time."""
        own = self.token(file.channel, file.stamp_us)
        self.rows["ego_pose"].append(
            {"token": own, "timestamp": file.stamp_us, "translation": file.translation, "rotation": file.rotation}
        )
        self.rows["sample_data"].append(
            {
                "token": own,
                "sample_token": self.token("sample", file.sample_us),
                "ego_pose_token": own,
                "calibrated_sensor_token": file.calibration,
                "timestamp": file.stamp_us,
                "fileformat": file.fileformat,
                "is_key_frame": file.is_keyframe,
                "width": file.size[0],
                "height": file.size[1],
                "filename": file.filename,
                "prev": "",
                "next": "",
            }
        )

    def link_files(self) -> None:
        """Connect each sensor's records in time, once all are added."""
        sensors = {row["token"]: row["sensor_token"] for row in self.rows["calibrated_sensor"]}
        last: dict[str, dict] = {}
        for record in self.rows["sample_data"]:
            sensor = sensors[record["calibrated_sensor_token"]]
            before = last.get(sensor)
            if before is not None:
                record["prev"], before["next"] = before["token"], record["token"]
            last[sensor] = record

    def add_instance(self, name: object, category: str, annotations: Sequence[Annotation]) -> None:
        """Add an object and its boxes, in time order; category: one of OFFICIAL_CATEGORIES."""
        tokens = ["", *(self.token("annotation", name, annotation.number) for annotation in annotations), ""]
        self.rows["sample_annotation"] += [
            {
                "token": own,
                "sample_token": annotation.sample,
                "instance_token": self.token("instance", name),
                "visibility_token": annotation.visibility,
                "attribute_tokens": [token("attribute", annotation.attribute)] if annotation.attribute else [],
                "translation": annotation.translation,
                "size": annotation.size,
                "rotation": annotation.rotation,
                "prev": before,
                "next": after,
                "num_lidar_pts": annotation.lidar_points,
                "num_radar_pts": 0,
                **({} if annotation.score is None else {"score": annotation.score}),
            }
            for annotation, before, own, after in zip(annotations, tokens, tokens[1:], tokens[2:], strict=False)
        ]
        self.rows["instance"].append(
            {
                "token": self.token("instance", name),
                "category_token": token("category", category),
                "nbr_annotations": len(annotations),
                "first_annotation_token": tokens[1],
                "last_annotation_token": tokens[-2],
            }
        )

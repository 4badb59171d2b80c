"""nuScenes tables: rows that every dataset shares, and rows of one scene."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from vexkd_model.geometry.transforms import quaternion_from_matrix
from vexkd_model.synth.actors import CATEGORIES, Actor
from vexkd_model.synth.rig import CHANNELS, Rig
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
VISIBILITY_EDGES = (0.4, 0.6, 0.8)
LIDAR = "LIDAR_TOP"


def token(*name: object) -> str:
    """Token of a record, 32 hexadecimal digits: the same name gives the same token."""
    return hashlib.md5("/".join(map(str, name)).encode(), usedforsecurity=False).hexdigest()


def shared_tables() -> dict[str, list[dict]]:
    """Make the tables of categories, attributes, visibilities and sensors."""
    return {
        "category": [
            {"token": token("category", name), "name": name, "description": ""} for name in OFFICIAL_CATEGORIES
        ],
        "attribute": [{"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTE_NAMES],
        "visibility": [{"token": key, "level": level, "description": ""} for key, level in VISIBILITIES.items()],
        "sensor": [
            {
                "token": token("sensor", channel),
                "channel": channel,
                "modality": "lidar" if channel == LIDAR else "camera",
            }
            for channel in (LIDAR, *CHANNELS)
        ],
    }


@dataclass
class SceneTables:
    """Rows of one scene, collected in time order.

    name: official scene name. seed makes the tokens of differently seeded datasets differ. offset: (2,) [m],
    the scene's origin on its map.
    """

    name: str
    seed: int
    location: str
    offset: np.ndarray
    rows: dict[str, list[dict]] = field(default_factory=lambda: {name: [] for name in TABLES})

    def token(self, *what: object) -> str:
        return token(self.seed, self.name, *what)

    @property
    def logfile(self) -> str:
        """Name of the drive that the scene was recorded on; every file name starts with it."""
        return f"synth-{self.seed}-{self.name}"

    def add_scene(self, stamps_us: list[int], description: str) -> None:
        """Add the log, the scene and its samples, one a keyframe."""
        samples = [self.token("sample", stamp) for stamp in stamps_us]
        log, scene = self.token("log"), self.token("scene")
        self.rows["log"].append(
            {
                "token": log,
                "logfile": self.logfile,
                "vehicle": "synth",
                "date_captured": "2018-07-01",
                "location": self.location,
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

    def add_calibration(self, rig: Rig, width: int, height: int) -> None:
        """Add the vehicle's sensors, for images of this size."""
        sensors = [(LIDAR, rig.base_from_lidar, [])]
        sensors += [(c.channel, c.base_from_camera, c.intrinsics(width, height).tolist()) for c in rig.cameras]
        for channel, base_from_sensor, intrinsic in sensors:
            self.rows["calibrated_sensor"].append(
                {
                    "token": self.token("calibrated_sensor", channel),
                    "sensor_token": token("sensor", channel),
                    "translation": base_from_sensor[:3, 3].tolist(),
                    "rotation": quaternion_from_matrix(base_from_sensor).tolist(),
                    "camera_intrinsic": intrinsic,
                }
            )

    def add_sample_data(
        self,
        channel: str,
        stamp_us: int,
        sample_stamp_us: int,
        filename: str,
        world_from_base: np.ndarray,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        """Add one file of a sensor and the ego pose at its time. sample_stamp_us: the keyframe that it belongs to."""
        own = self.token(channel, stamp_us)
        x, y = world_from_base[:2, 3] + self.offset
        self.rows["ego_pose"].append(
            {
                "token": own,
                "timestamp": stamp_us,
                "translation": [x, y, 0.0],
                "rotation": quaternion_from_matrix(world_from_base).tolist(),
            }
        )
        self.rows["sample_data"].append(
            {
                "token": own,
                "sample_token": self.token("sample", sample_stamp_us),
                "ego_pose_token": own,
                "calibrated_sensor_token": self.token("calibrated_sensor", channel),
                "timestamp": stamp_us,
                "fileformat": "pcd" if channel == LIDAR else "jpg",
                "is_key_frame": channel != LIDAR or stamp_us == sample_stamp_us,
                "width": size[0],
                "height": size[1],
                "filename": filename,
                "prev": "",
                "next": "",
            }
        )

    def link_sample_data(self) -> None:
        """Connect each sensor's records in time, once all are added."""
        last: dict[str, dict] = {}
        for record in self.rows["sample_data"]:
            before = last.get(record["calibrated_sensor_token"])
            if before is not None:
                record["prev"], before["next"] = before["token"], record["token"]
            last[record["calibrated_sensor_token"]] = record

    def add_annotations(
        self,
        actors: list[Actor],
        stamps_us: list[int],
        times_s: list[float],
        lidar_points: np.ndarray,
        visible: np.ndarray,
    ) -> None:
        """Add instances and annotations.

        An object is annotated from the first to the last keyframe in which a LiDAR point lies in its box.
        lidar_points: int (K, A), points in each box at each keyframe. visible: float (K, A), seen share or NaN.
        """
        levels = 1 + np.digitize(np.nan_to_num(visible, nan=0.0), VISIBILITY_EDGES)
        for i, actor in enumerate(actors):
            touched = np.flatnonzero(lidar_points[:, i])
            if len(touched):
                keyframes = range(touched[0], touched[-1] + 1)
                rows = [
                    self._annotation(i, actor, stamps_us, times_s[k], k, lidar_points[k, i], levels[k, i])
                    for k in keyframes
                ]
                rows[0]["prev"] = rows[-1]["next"] = ""
                self.rows["sample_annotation"] += rows
                self.rows["instance"].append(
                    {
                        "token": self.token("instance", i),
                        "category_token": token("category", CATEGORIES[actor.name]),
                        "nbr_annotations": len(rows),
                        "first_annotation_token": rows[0]["token"],
                        "last_annotation_token": rows[-1]["token"],
                    }
                )

    def _annotation(
        self, i: int, actor: Actor, stamps_us: list[int], time_s: float, k: int, lidar_points: int, level: int
    ) -> dict:
        centre, yaw = actor.box(time_s)
        length, width, height = actor.size.tolist()
        return {
            "token": self.token("annotation", i, k),
            "sample_token": self.token("sample", stamps_us[k]),
            "instance_token": self.token("instance", i),
            "visibility_token": str(level),
            "attribute_tokens": [token("attribute", actor.attribute)] if actor.attribute else [],
            "translation": [centre[0] + self.offset[0], centre[1] + self.offset[1], centre[2]],
            "size": [width, length, height],
            "rotation": [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)],
            "prev": self.token("annotation", i, k - 1),
            "next": self.token("annotation", i, k + 1),
            "num_lidar_pts": int(lidar_points),
            "num_radar_pts": 0,
        }

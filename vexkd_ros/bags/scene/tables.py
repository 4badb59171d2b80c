"""Records of one scene, out of the devkit's tables: plain data that travels to worker processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes

from vexkd_model.data.splits import LIDAR
from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import matrix_from_pose


class Pose(NamedTuple):
    """Pose of the tables: translation [m], quaternion w, x, y, z."""

    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]

    @property
    def matrix(self) -> np.ndarray:
        """Return float64 (4, 4) `parent_from_child`, not to be written to."""
        return _matrix(self)

    @property
    def inverse(self) -> "Pose":
        """Return `child_from_parent`."""
        w, x, y, z = self.rotation
        back = Pose((0.0, 0.0, 0.0), (w, -x, -y, -z))
        return back._replace(translation=tuple((-back.matrix[:3, :3] @ self.translation).tolist()))

    def __matmul__(self, other: "Pose") -> "Pose":
        """Join two poses: `a_from_b @ b_from_c` is `a_from_c`."""
        (w, x, y, z), (a, b, c, d) = self.rotation, other.rotation
        moved = self.matrix @ (*other.translation, 1.0)
        return Pose(
            tuple(moved[:3].tolist()),
            (
                w * a - x * b - y * c - z * d,
                w * b + x * a + y * d - z * c,
                w * c - x * d + y * a + z * b,
                w * d + x * c - y * b + z * a,
            ),
        )


@lru_cache(maxsize=64)
def _matrix(parent_from_child: Pose) -> np.ndarray:
    """Compute the matrix and keep it for a while: all boxes of a keyframe need that of the vehicle."""
    matrix = matrix_from_pose(*parent_from_child)
    matrix.flags.writeable = False
    return matrix


@dataclass(frozen=True)
class Capture:
    """File of a sensor. intrinsics: (3, 3), row by row, of a camera; size: (width, height) of its image [px]."""

    path: Path
    stamp_ns: int
    is_keyframe: bool
    base_from_sensor: Pose
    odom_from_base: Pose
    intrinsics: tuple[float, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Annotation:
    """Box of one of the ten detection classes in odom. size: (length, width, height) [m]; velocity: (vx, vy, vz)
    [m/s], NaN where it is unknown. attribute: nuScenes', vehicle.parked, or ''. score: 1 of a true box, less of one
    that a model made (`vexkd autolabel`)."""

    name: str
    instance: str
    odom_from_box: Pose
    size: tuple[float, float, float]
    velocity: tuple[float, float, float]
    attribute: str
    score: float


@dataclass(frozen=True)
class Keyframe:
    """Annotated moment; stamp_ns and odom_from_base are the LiDAR's."""

    token: str
    stamp_ns: int
    odom_from_base: Pose
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class SceneRecord:
    """Scene. sensors: the captures of each channel (LIDAR_TOP, CAM_FRONT, RADAR_FRONT …) in the order of time."""

    name: str
    location: str
    dataroot: Path
    sensors: dict[str, tuple[Capture, ...]]
    keyframes: tuple[Keyframe, ...]

    @property
    def lidar(self) -> tuple[Capture, ...]:
        return self.sensors.get(LIDAR, ())

    @property
    def start_ns(self) -> int:
        """Return the stamp of the first capture of any sensor."""
        return min(capture.stamp_ns for captures in self.sensors.values() for capture in captures)


def read_scene(nusc: NuScenes, scene: dict) -> SceneRecord:
    """Read a scene out of the tables; no file of a sensor is looked at. UserError where tables miss a record."""
    try:
        samples = list(_samples(nusc, scene))
        if not samples:
            raise UserError(
                f"{nusc.dataroot}/{nusc.version}/scene.json: {scene['name']} has no sample; leave it out, "
                "with --scenes or --split"
            )
        keyframes = tuple(_keyframe(nusc, sample) for sample in samples if LIDAR in sample["data"])
        return SceneRecord(
            scene["name"],
            nusc.get("log", scene["log_token"])["location"],
            Path(nusc.dataroot),
            _sensors(nusc, samples),
            keyframes,
        )
    except KeyError as error:
        raise UserError(
            f"{nusc.dataroot}/{nusc.version}: tables refer to a record that is not there ({error}); "
            "complete the download"
        ) from None


def _samples(nusc: NuScenes, scene: dict) -> Iterator[dict]:
    token = scene["first_sample_token"]
    while token:
        sample = nusc.get("sample", token)
        yield sample
        token = sample["next"]


def _sensors(nusc: NuScenes, samples: list[dict]) -> dict[str, tuple[Capture, ...]]:
    """Collect every sample_data of the scene by channel, even where a sensor's chain is broken between keyframes."""
    records: dict[str, dict[str, dict]] = {}
    for sample in samples:
        for channel, token in sample["data"].items():
            known = records.setdefault(channel, {})
            if token not in known:
                known |= {record["token"]: record for record in _chain(nusc, token)}
    sensors = {
        channel: sorted(found.values(), key=lambda record: record["timestamp"])
        for channel, found in sorted(records.items())
    }
    mounts: dict[str, Pose] = {}
    return {channel: tuple(_capture(nusc, record, mounts) for record in found) for channel, found in sensors.items()}


def _chain(nusc: NuScenes, token: str) -> Iterator[dict]:
    """Yield the sample_data records that are linked with one of them, it included."""
    record = nusc.get("sample_data", token)
    yield record
    for way in ("prev", "next"):
        other = record
        while other[way]:
            other = nusc.get("sample_data", other[way])
            yield other


def _capture(nusc: NuScenes, record: dict, mounts: dict[str, Pose]) -> Capture:
    sensor = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
    mount = mounts.setdefault(sensor["token"], _pose(sensor))  # one object for all captures of a sensor
    ego = nusc.get("ego_pose", record["ego_pose_token"])
    intrinsics = tuple(float(value) for row in sensor["camera_intrinsic"] for value in row)
    return Capture(
        Path(nusc.dataroot) / record["filename"],
        record["timestamp"] * 1000,
        record["is_key_frame"],
        mount,
        _pose(ego),
        intrinsics,
        (record["width"], record["height"]),
    )


def _keyframe(nusc: NuScenes, sample: dict) -> Keyframe:
    lidar = nusc.get("sample_data", sample["data"][LIDAR])
    found = (nusc.get("sample_annotation", token) for token in sample["anns"])
    named = [(category_to_detection_name(annotation["category_name"]), annotation) for annotation in found]
    annotations = tuple(_annotation(nusc, name, annotation) for name, annotation in named if name is not None)
    return Keyframe(
        sample["token"], lidar["timestamp"] * 1000, _pose(nusc.get("ego_pose", lidar["ego_pose_token"])), annotations
    )


def _annotation(nusc: NuScenes, name: str, annotation: dict) -> Annotation:
    width, length, height = map(float, annotation["size"])
    velocity = tuple(nusc.box_velocity(annotation["token"]).tolist())
    attributes = [nusc.get("attribute", token)["name"] for token in annotation["attribute_tokens"][:1]]
    return Annotation(
        name,
        annotation["instance_token"],
        _pose(annotation),
        (length, width, height),
        velocity,
        attributes[0] if attributes else "",
        float(annotation.get("score", 1.0)),
    )


def _pose(record: dict) -> Pose:
    (x, y, z), (qw, qx, qy, qz) = map(float, record["translation"]), map(float, record["rotation"])
    return Pose((x, y, z), (qw, qx, qy, qz))

"""Rows of the frame index from nuScenes tables: the only reader of the devkit's tables for training."""

import hashlib
import json
from pathlib import Path

import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes

from vexkd_model.data.file_checks import Problem
from vexkd_model.data.splits import LIDAR, NAMES
from vexkd_model.errors import UserError
from vexkd_model.geometry.boxes import values_from_nuscenes
from vexkd_model.geometry.transforms import inverse, matrix_from_pose
from vexkd_model.types import ATTRIBUTE_NAMES, CAMERAS, DETECTION_CLASSES

SWEEPS = 10  # the most that any published student reads
CHUNK = 1 << 20  # bytes


def tables_digest(dataroot: Path, version: str) -> str:
    """Short hash of all tables, which changes with any of their content."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted((Path(dataroot) / version).glob("*.json")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def scene_rows(nusc: NuScenes, scene: dict) -> tuple[list[dict], list[Problem]]:
    """Make one row of the frame index per keyframe of a scene, in time order, without looking at any file.

    Also return the problems of keyframes without a LiDAR sweep, which are left out, and of a scene without any.
    annotation_token: no column of the index; it names a box in which something is wrong.
    """
    tables = Path(nusc.dataroot) / nusc.version
    rows, problems, token = [], [], scene["first_sample_token"]
    try:
        location = nusc.get("log", scene["log_token"])["location"]
        while token:
            sample = nusc.get("sample", token)
            if LIDAR in sample["data"]:
                rows.append(
                    {"token": token, "scene": scene["name"], "location": location, **_frame_columns(nusc, sample)}
                )
            else:
                problems.append(Problem(str(tables / "sample_data.json"), f"sample {token} has no keyframe of {LIDAR}"))
            token = sample["next"]
    except KeyError as error:
        raise UserError(f"{tables}: {scene['name']}: the tables hold no {error}; unpack them again") from None
    if not rows and not problems:
        problems.append(Problem(str(tables / "scene.json"), f"{scene['name']} has no sample"))
    return rows, problems


def check_lidar_is_known(nusc: NuScenes) -> None:
    """Raise UserError where no sensor of the tables is the LiDAR, whose stamps and poses are those of the frames."""
    channels = {sensor["channel"]: sensor["modality"] for sensor in nusc.sensor}
    if LIDAR not in channels:
        lidars = [name for name, modality in channels.items() if modality == "lidar"]
        example = json.dumps({"sensors": {lidars[0] if lidars else "NAME": LIDAR}})
        raise UserError(
            f"{Path(nusc.dataroot) / nusc.version / 'sensor.json'}: no {LIDAR}, only "
            f"{', '.join(sorted(channels))}; say which one it is in {NAMES} beside it, {example}"
        )


def _frame_columns(nusc: NuScenes, sample: dict) -> dict:
    keyframe = nusc.get("sample_data", sample["data"][LIDAR])
    sweeps = _sweeps(nusc, keyframe)
    base_from_global = inverse(np.reshape(sweeps["odom_from_base"][0], (4, 4)))
    return {
        "stamp_ns": keyframe["timestamp"] * 1000,
        **sweeps,
        **_cameras(nusc, sample),
        **_boxes(nusc, sample, base_from_global),
    }


def _sweeps(nusc: NuScenes, keyframe: dict) -> dict[str, list]:
    """Columns of the keyframe's sweep and up to nine before it, newest first."""
    records = [keyframe]
    while len(records) < SWEEPS and records[-1]["prev"]:
        records.append(nusc.get("sample_data", records[-1]["prev"]))
    placed = [_placed(nusc, record) for record in records]
    return {
        "sweep_path": [record["filename"] for record in records],
        "sweep_stamp_ns": [record["timestamp"] * 1000 for record in records],
        "base_from_sensor": [base_from_sensor for base_from_sensor, _ in placed],
        "odom_from_base": [odom_from_base for _, odom_from_base in placed],
    }


def _cameras(nusc: NuScenes, sample: dict) -> dict[str, list]:
    """Columns of the keyframe's images, each with its own calibration and ego pose."""
    names = [name for name in CAMERAS if name in sample["data"]]
    records = [nusc.get("sample_data", sample["data"][name]) for name in names]
    sensors = [nusc.get("calibrated_sensor", record["calibrated_sensor_token"]) for record in records]
    placed = [_placed(nusc, record) for record in records]
    return {
        "camera_name": names,
        "camera_path": [record["filename"] for record in records],
        "camera_stamp_ns": [record["timestamp"] * 1000 for record in records],
        "camera_size": [(record["width"], record["height"]) for record in records],
        "camera_intrinsics": [np.array(sensor["camera_intrinsic"], np.float64).ravel() for sensor in sensors],
        "camera_base_from_sensor": [base_from_sensor for base_from_sensor, _ in placed],
        "camera_odom_from_base": [odom_from_base for _, odom_from_base in placed],
    }


def _placed(nusc: NuScenes, record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Flattened base_from_sensor and odom_from_base of a sample_data record: float64 (16,) each."""
    sensor = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
    pose = nusc.get("ego_pose", record["ego_pose_token"])
    return (
        matrix_from_pose(sensor["translation"], sensor["rotation"]).ravel(),
        matrix_from_pose(pose["translation"], pose["rotation"]).ravel(),
    )


def _boxes(nusc: NuScenes, sample: dict, base_from_global: np.ndarray) -> dict[str, list | np.ndarray]:
    """Annotations of the ten detection classes in base_link; none in a split without annotations."""
    names = {
        token: category_to_detection_name(nusc.get("sample_annotation", token)["category_name"])
        for token in sample["anns"]
    }
    annotations = [nusc.get("sample_annotation", token) for token, name in names.items() if name is not None]
    centres, sizes, rotations = (
        np.array([annotation[key] for annotation in annotations]) for key in ("translation", "size", "rotation")
    )
    velocities = np.reshape([nusc.box_velocity(annotation["token"]) for annotation in annotations], (-1, 3))
    with np.errstate(invalid="ignore"):  # quaternions of zeros become NaN, which `check_row` reports
        values = values_from_nuscenes(base_from_global, centres, sizes, rotations, velocities)
        up = [base_from_global[:3, :3] @ matrix_from_pose([0, 0, 0], rotation)[:3, 2] for rotation in rotations]
    return {
        "boxes": values.astype(np.float32).ravel(),
        "box_up": np.array(up, np.float32).ravel(),
        "labels": [DETECTION_CLASSES.index(name) for name in names.values() if name is not None],
        "attributes": [_attribute(nusc, annotation) for annotation in annotations],
        "lidar_points": [annotation["num_lidar_pts"] for annotation in annotations],
        "radar_points": [annotation["num_radar_pts"] for annotation in annotations],
        "annotation_token": [annotation["token"] for annotation in annotations],
    }


def _attribute(nusc: NuScenes, annotation: dict) -> int:
    names = [nusc.get("attribute", token)["name"] for token in annotation["attribute_tokens"]]
    return ATTRIBUTE_NAMES.index(names[0]) if names and names[0] in ATTRIBUTE_NAMES else -1

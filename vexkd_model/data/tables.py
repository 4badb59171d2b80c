"""Rows of the frame index from nuScenes tables: the only reader of the devkit's tables for training."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import create_splits_scenes

from vexkd_model.errors import UserError
from vexkd_model.geometry.boxes import values_from_nuscenes
from vexkd_model.geometry.transforms import inverse, matrix_from_pose
from vexkd_model.types import ATTRIBUTE_NAMES, CAMERAS, DETECTION_CLASSES

SWEEPS = 10  # the most that any published student reads
LIDAR = "LIDAR_TOP"
CHUNK = 1 << 20  # bytes


def open_nuscenes(dataroot: Path, version: str) -> NuScenes:
    """Open the devkit's tables; UserError names what is missing."""
    folder = Path(dataroot) / version
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; DATAROOT must hold the nuScenes tables of --version {version}")
    try:
        return NuScenes(version=version, dataroot=str(dataroot), verbose=False)
    except (FileNotFoundError, AssertionError, json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        raise UserError(f"{folder}: not a complete nuScenes dataset ({error})") from None


def scenes_of_split(nusc: NuScenes, split: str) -> list[dict]:
    """List the dataset's scenes of an official split, in official order; UserError for another name."""
    official = create_splits_scenes()
    if split not in official:
        raise UserError(f"--split {split}: no official split of that name; there are {', '.join(official)}")
    present = {scene["name"]: scene for scene in nusc.scene}
    return [present[name] for name in official[split] if name in present]


def keep_scenes(nusc: NuScenes, names: Collection[str]) -> None:
    """Limit `nusc` to the samples of these scenes, so that the devkit, which knows no smaller unit, scores part of a
    split."""
    tokens = {scene["token"] for scene in nusc.scene if scene["name"] in names}
    nusc.sample = [sample for sample in nusc.sample if sample["scene_token"] in tokens]
    # By which `get` finds a record.
    nusc._token2ind["sample"] = {sample["token"]: i for i, sample in enumerate(nusc.sample)}


def tables_digest(dataroot: Path, version: str) -> str:
    """Short hash of all tables, which changes with any of their content."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted((Path(dataroot) / version).glob("*.json")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def scene_rows(nusc: NuScenes, scene: dict) -> list[dict]:
    """Make one row of the frame index per keyframe of a scene, in time order, without looking at any file.

    annotation_token: no column of the index; it names a box in which something is wrong.
    """
    rows, token = [], scene["first_sample_token"]
    try:
        location = nusc.get("log", scene["log_token"])["location"]
        while token:
            sample = nusc.get("sample", token)
            rows.append({"token": token, "scene": scene["name"], "location": location, **_frame_columns(nusc, sample)})
            token = sample["next"]
    except KeyError as error:
        raise UserError(f"{Path(nusc.dataroot) / nusc.version}: {scene['name']}: the tables hold no {error}; unpack "
                        "them again") from None
    return rows


def _frame_columns(nusc: NuScenes, sample: dict) -> dict:
    keyframe = nusc.get("sample_data", sample["data"][LIDAR])
    sweeps = _sweeps(nusc, keyframe)
    base_from_global = inverse(np.reshape(sweeps["odom_from_base"][0], (4, 4)))
    return {"stamp_ns": keyframe["timestamp"] * 1000, **sweeps, **_cameras(nusc, sample),
            **_boxes(nusc, sample, base_from_global)}  # fmt: skip


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
    return tuple(matrix_from_pose(some["translation"], some["rotation"]).ravel() for some in (sensor, pose))


def _boxes(nusc: NuScenes, sample: dict, base_from_global: np.ndarray) -> dict[str, list | np.ndarray]:
    """Annotations of the ten detection classes in base_link; none in a split without annotations."""
    names = {token: category_to_detection_name(nusc.get("sample_annotation", token)["category_name"])
             for token in sample["anns"]}
    annotations = [nusc.get("sample_annotation", token) for token, name in names.items() if name is not None]
    values = values_from_nuscenes(
        base_from_global, *([annotation[key] for annotation in annotations]
                            for key in ("translation", "size", "rotation")),
        np.reshape([nusc.box_velocity(annotation["token"]) for annotation in annotations], (-1, 3)))
    up = [base_from_global[:3, :3] @ matrix_from_pose([0, 0, 0], annotation["rotation"])[:3, 2]
          for annotation in annotations]
    return {"boxes": values.astype(np.float32).ravel(), "box_up": np.array(up, np.float32).ravel(),
            "labels": [DETECTION_CLASSES.index(name) for name in names.values() if name is not None],
            "attributes": [_attribute(nusc, annotation) for annotation in annotations],
            "lidar_points": [annotation["num_lidar_pts"] for annotation in annotations],
            "radar_points": [annotation["num_radar_pts"] for annotation in annotations],
            "annotation_token": [annotation["token"] for annotation in annotations]}  # fmt: skip


def _attribute(nusc: NuScenes, annotation: dict) -> int:
    names = [nusc.get("attribute", token)["name"] for token in annotation["attribute_tokens"]]
    return ATTRIBUTE_NAMES.index(names[0]) if names and names[0] in ATTRIBUTE_NAMES else -1

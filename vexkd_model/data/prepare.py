"""`vexkd prepare`: nuScenes tables → frame index. The only reader of the devkit's tables for training."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import create_splits_scenes

from vexkd_model.data.index import FORMAT, SCHEMA
from vexkd_model.data.map_masks import MapRasteriser
from vexkd_model.errors import UserError
from vexkd_model.geometry.boxes import values_from_nuscenes
from vexkd_model.geometry.transforms import inverse, matrix_from_pose
from vexkd_model.progress import progress
from vexkd_model.types import DETECTION_CLASSES

SWEEPS = 10  # the most that any published student reads
SPLITS_OF_VERSION = {"v1.0-mini": ("mini_train", "mini_val"), "v1.0-trainval": ("train", "val"),
                     "v1.0-test": ("test",)}  # fmt: skip
CHUNK_ROWS = 256


def open_nuscenes(dataroot: Path, version: str) -> NuScenes:
    """The devkit's tables, or a UserError that names what is missing."""
    folder = Path(dataroot) / version
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; DATAROOT must hold the nuScenes tables of --version {version}")
    try:
        return NuScenes(version=version, dataroot=str(dataroot), verbose=False)
    except (FileNotFoundError, AssertionError, json.JSONDecodeError, KeyError) as error:
        raise UserError(f"{folder}: not a complete nuScenes dataset ({error})") from None


def prepare(dataroot: Path, version: str, index_dir: Path, splits: Sequence[str] | None = None,
            force: bool = False) -> list[Path]:
    """Write the index of every split that has scenes in the dataset; return their folders.

    A split whose index is complete and holds the scenes that are there is kept unless `force`. An interrupted run
    leaves only a `.partial` folder.
    """
    if version not in SPLITS_OF_VERSION:
        raise UserError(f"--version {version}: choose one of {', '.join(SPLITS_OF_VERSION)}")
    nusc = open_nuscenes(dataroot, version)
    scenes_of_split = create_splits_scenes()
    present = {scene["name"]: scene for scene in nusc.scene}
    folders = []
    for split in splits or SPLITS_OF_VERSION[version]:
        if split not in scenes_of_split:
            raise UserError(f"--split {split}: no official split of that name")
        scenes = [present[name] for name in scenes_of_split[split] if name in present]
        folder = Path(index_dir) / split
        if not scenes:
            if splits:
                raise UserError(f"{dataroot}: holds no scene of split {split}")
            continue
        folders.append(folder)
        if force or not _covers(folder, scenes):
            _write_split(nusc, scenes, split, folder)
    if not folders:
        raise UserError(f"{dataroot}: holds no scene of {version}'s splits {', '.join(SPLITS_OF_VERSION[version])}")
    return folders


def _covers(folder: Path, scenes: list[dict]) -> bool:
    """Whether a complete index holds exactly these scenes: a dataset may have grown since."""
    manifest = folder / "index.json"
    return manifest.is_file() and json.loads(manifest.read_text())["scenes"] == [scene["name"] for scene in scenes]


def _write_split(nusc: NuScenes, scenes: list[dict], split: str, folder: Path) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokens = [token for scene in scenes for token in _sample_tokens(nusc, scene)]
    rasterisers = _rasterisers(nusc, scenes)
    rows, masks = [], []
    with pa.OSFile(str(partial / "frames.arrow"), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for token in progress(tokens, f"prepare {split}", unit="frames"):
            row = _frame_row(nusc, token)
            rows.append(row)
            if rasterisers:
                pose = np.reshape(row["odom_from_base"][0], (4, 4))
                masks.append(np.packbits(rasterisers[row["location"]].masks(pose)))
            if len(rows) == CHUNK_ROWS:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
                rows = []
        if rows:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    if masks:
        np.save(partial / "map_masks.npy", np.stack(masks))
    manifest = {"format": FORMAT, "dataroot": str(Path(nusc.dataroot).resolve()), "version": nusc.version,
                "split": split, "frames": len(tokens), "scenes": [scene["name"] for scene in scenes],
                "has_maps": bool(masks)}  # fmt: skip
    (partial / "index.json").write_text(json.dumps(manifest, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _rasterisers(nusc: NuScenes, scenes: list[dict]) -> dict[str, MapRasteriser]:
    """One a location; none when the dataset came without the map expansion, which detection does not need."""
    if not (Path(nusc.dataroot) / "maps" / "expansion").is_dir():
        return {}
    locations = {nusc.get("log", scene["log_token"])["location"] for scene in scenes}
    return {location: MapRasteriser(Path(nusc.dataroot), location) for location in sorted(locations)}


def _sample_tokens(nusc: NuScenes, scene: dict) -> list[str]:
    tokens, token = [], scene["first_sample_token"]
    while token:
        tokens.append(token)
        token = nusc.get("sample", token)["next"]
    return tokens


def _frame_row(nusc: NuScenes, token: str) -> dict:
    sample = nusc.get("sample", token)
    scene = nusc.get("scene", sample["scene_token"])
    keyframe = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    sweeps = _sweeps(nusc, keyframe)
    boxes = _boxes(nusc, sample, inverse(np.reshape(sweeps["odom_from_base"][0], (4, 4))))
    return {"token": token, "scene": scene["name"], "location": nusc.get("log", scene["log_token"])["location"],
            "stamp_ns": keyframe["timestamp"] * 1000, **sweeps, **boxes}  # fmt: skip


def _sweeps(nusc: NuScenes, keyframe: dict) -> dict[str, list]:
    columns: dict[str, list] = {name: [] for name in ("sweep_path", "sweep_stamp_ns", "base_from_sensor",
                                                      "odom_from_base")}
    record = keyframe
    while len(columns["sweep_path"]) < SWEEPS:
        path = Path(nusc.dataroot) / record["filename"]
        if not path.is_file():
            raise UserError(f"{path}: LiDAR file of sample_data {record['token']} is missing; complete the download")
        if path.stat().st_size % 20:
            raise UserError(f"{path}: truncated LiDAR file; download it again")
        sensor = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
        pose = nusc.get("ego_pose", record["ego_pose_token"])
        for name, value in (("base_from_sensor", sensor), ("odom_from_base", pose)):
            matrix = matrix_from_pose(value["translation"], value["rotation"])
            if not np.isfinite(matrix).all():
                raise UserError(f"{nusc.version}: {name} of sample_data {record['token']} is not finite")
            columns[name].append(matrix.ravel())
        columns["sweep_path"].append(record["filename"])
        columns["sweep_stamp_ns"].append(record["timestamp"] * 1000)
        if not record["prev"]:
            break
        record = nusc.get("sample_data", record["prev"])
    return columns


def _boxes(nusc: NuScenes, sample: dict, base_from_global: np.ndarray) -> dict[str, list | np.ndarray]:
    names = {token: category_to_detection_name(nusc.get("sample_annotation", token)["category_name"])
             for token in sample["anns"]}
    annotations = [nusc.get("sample_annotation", token) for token, name in names.items() if name is not None]
    values = values_from_nuscenes(
        base_from_global, *([annotation[key] for annotation in annotations]
                            for key in ("translation", "size", "rotation")),
        np.reshape([nusc.box_velocity(annotation["token"]) for annotation in annotations], (-1, 3)))
    return {"boxes": values.astype(np.float32).ravel(),
            "labels": [DETECTION_CLASSES.index(name) for name in names.values() if name is not None],
            "lidar_points": [annotation["num_lidar_pts"] for annotation in annotations]}  # fmt: skip

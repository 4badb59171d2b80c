"""A dataset of a few frames in the nuScenes schema, made here with known truth, and processes that end with a test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from bag_content import messages_of
from full_nuscenes import write_full_nuscenes
from pyquaternion import Quaternion

from vexkd_model.config import ModelConfig, load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.package import save_package
from vexkd_model.model import build_model
from vexkd_ros.bags.nuscenes_to_bag import convert

VERSION, SPLIT, SCENE = "v1.0-mini", "mini_val", "scene-0103"
START_US = 1_533_000_000_000_000
SWEEP_US = 50_000
SWEEPS, KEYFRAME_EVERY, FIRST_KEYFRAME = 9, 3, 2  # keyframes are the sweeps 2, 5 and 8
IMAGE_SIZE = (32, 18)  # width, height [px]
REPOSITORY = Path(__file__).parents[3]
COARSE = ["grid={extent: 54.0, cell: 1.8}"]
# The shipped configurations, shrunk; with history, for the camera student.
SHRUNK = {
    "lidar": ("lidar_pillar_small", [*COARSE, "lidar.sweeps=3", "lidar.encoder.pillar=1.8"]),
    "camera": ("bevdet4d_depth_small", [*COARSE, "camera.images.width=128", "camera.images.height=48"]),
}  # fmt: skip
CLASSES = {  # category: attribute, (width, length, height); animals are not scored
    "vehicle.car": ("vehicle.moving", (1.9, 4.6, 1.7)), "movable_object.barrier": ("", (2.0, 0.5, 1.0)),
    "human.pedestrian.adult": ("pedestrian.moving", (0.7, 0.7, 1.8)), "animal": ("", (0.4, 0.8, 0.6))}  # fmt: skip


def ego_pose_at(time_us: int) -> dict:
    """The tiny world's vehicle drives a curve at 8 m/s and nods a little."""
    seconds = (time_us - START_US) * 1e-6
    yaw = 0.8 + 0.3 * seconds
    rotation = Quaternion(axis=[0, 0, 1], radians=yaw) * Quaternion(axis=[0, 1, 0], radians=0.02)
    return {"translation": [600 + 8 * seconds * np.cos(yaw), 900 + 8 * seconds * np.sin(yaw), 0.1],
            "rotation": rotation.elements.tolist(), "timestamp": time_us}


def write_tiny_dataset(root: Path) -> Path:
    """One scene, 9 LiDAR sweeps at 20 Hz, 3 keyframes, one camera's images, four objects that move evenly."""
    tables: dict[str, list[dict]] = {name: [] for name in (
        "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
        "sample_annotation", "sample_data", "scene", "sensor", "visibility")}
    keyframes = range(FIRST_KEYFRAME, SWEEPS, KEYFRAME_EVERY)
    _write_surroundings(tables, [f"sample{i}" for i in range(len(keyframes))], root)
    for i, sweep in enumerate(keyframes):
        tables["sample"].append({"token": f"sample{i}", "timestamp": START_US + sweep * SWEEP_US,
                                 "scene_token": "scene", "prev": f"sample{i - 1}" if i else "",
                                 "next": f"sample{i + 1}" if i + 1 < len(keyframes) else ""})
    _write_sensor_data(tables, keyframes, root)
    _write_annotations(tables, keyframes)
    (root / VERSION).mkdir()
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
    return root


def _write_surroundings(tables: dict, samples: list[str], root: Path) -> None:
    (root / "maps").mkdir(parents=True)
    cv2.imwrite(str(root / "maps" / "m.png"), np.zeros((8, 8), np.uint8))
    tables["map"] = [{"token": "map", "category": "semantic_prior", "filename": "maps/m.png", "log_tokens": ["log"]}]
    tables["log"] = [{"token": "log", "logfile": "", "vehicle": "v", "date_captured": "2018-08-01",
                      "location": "boston-seaport"}]
    tables["scene"] = [{"token": "scene", "name": SCENE, "description": "", "log_token": "log",
                        "nbr_samples": len(samples), "first_sample_token": samples[0],
                        "last_sample_token": samples[-1]}]
    tables["visibility"] = [{"token": "4", "level": "v80-100", "description": ""}]
    for name, (attribute, _) in CLASSES.items():
        tables["category"].append({"token": name, "name": name, "description": ""})
        if attribute:
            tables["attribute"].append({"token": attribute, "name": attribute, "description": ""})
    mounts = {"LIDAR_TOP": ("lidar", [0.94, 0.0, 1.84], Quaternion(axis=[0, 0, 1], degrees=-90)),
              "CAM_FRONT": ("camera", [1.7, 0.0, 1.5], Quaternion(0.5, -0.5, 0.5, -0.5))}
    for channel, (modality, translation, rotation) in mounts.items():
        tables["sensor"].append({"token": channel, "channel": channel, "modality": modality})
        tables["calibrated_sensor"].append({
            "token": channel, "sensor_token": channel, "translation": translation,
            "rotation": rotation.elements.tolist(), "camera_intrinsic": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]})


def _write_sensor_data(tables: dict, keyframes: range, root: Path) -> None:
    random = np.random.default_rng(3)
    for folder in ("samples/LIDAR_TOP", "sweeps/LIDAR_TOP", "samples/CAM_FRONT"):
        (root / folder).mkdir(parents=True)
    for sweep in range(SWEEPS):
        is_key = sweep in keyframes
        stamp = START_US + sweep * SWEEP_US
        points = np.column_stack([random.uniform(-40, 40, (3000, 2)), random.uniform(-2, 2, 3000),
                                  random.integers(0, 256, 3000), random.integers(0, 32, 3000)]).astype(np.float32)
        file = f"{'samples' if is_key else 'sweeps'}/LIDAR_TOP/{stamp}.pcd.bin"
        points.tofile(root / file)
        _append_data(tables, "LIDAR_TOP", sweep, SWEEPS, stamp, _sample_of(sweep), is_key, file)
    for i, sweep in enumerate(keyframes):
        stamp = START_US + sweep * SWEEP_US + 12_000
        file = f"samples/CAM_FRONT/{stamp}.jpg"
        cv2.imwrite(str(root / file), np.full((*IMAGE_SIZE[::-1], 3), 90, np.uint8))
        _append_data(tables, "CAM_FRONT", i, len(keyframes), stamp, i, True, file, IMAGE_SIZE)


def _sample_of(sweep: int) -> int:
    return max(0, -(-(sweep - FIRST_KEYFRAME) // KEYFRAME_EVERY))


def _append_data(tables: dict, channel: str, i: int, count: int, stamp: int, sample: int, is_key: bool,
                 file: str, size: tuple[int, int] = (0, 0)) -> None:
    token = f"{channel}{i}"
    tables["ego_pose"].append({"token": token, **ego_pose_at(stamp)})
    tables["sample_data"].append({
        "token": token, "sample_token": f"sample{sample}", "ego_pose_token": token,
        "calibrated_sensor_token": channel, "timestamp": stamp, "fileformat": "pcd", "is_key_frame": is_key,
        "width": size[0], "height": size[1], "filename": file, "prev": f"{channel}{i - 1}" if i else "",
        "next": f"{channel}{i + 1}" if i + 1 < count else ""})


def _write_annotations(tables: dict, keyframes: range) -> None:
    for number, (name, (attribute, size)) in enumerate(CLASSES.items()):
        tokens = [f"annotation{number}-{i}" for i in range(len(keyframes))]
        tables["instance"].append({"token": f"instance{number}", "category_token": name, "nbr_annotations": len(tokens),
                                   "first_annotation_token": tokens[0], "last_annotation_token": tokens[-1]})
        for i, sweep in enumerate(keyframes):
            seconds = sweep * SWEEP_US * 1e-6
            moved = 0 if name == "movable_object.barrier" else 1.5 * seconds
            tables["sample_annotation"].append({
                "token": tokens[i], "sample_token": f"sample{i}", "instance_token": f"instance{number}",
                "visibility_token": "4", "attribute_tokens": [attribute] if attribute else [],
                "translation": [610 + 4 * number + moved, 905 - 3 * number, 0.9], "size": list(size),
                "rotation": Quaternion(axis=[0, 0, 1], degrees=40 * number).elements.tolist(),
                "prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < len(tokens) else "",
                "num_lidar_pts": 20, "num_radar_pts": 0})


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def full_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scene-0061 and scene-0103 with six cameras, a radar, a map and, of the first alone, the CAN bus."""
    return write_full_nuscenes(tmp_path_factory.mktemp("full") / "data")


@pytest.fixture(scope="session")
def full_bags(full_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Everything of both scenes, by their names."""
    return {bag.name: bag for bag in convert(full_dataset, VERSION, tmp_path_factory.mktemp("full_bags"))}


@pytest.fixture(scope="session")
def index_dir(full_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of both scenes, each the only one of its split."""
    folder = tmp_path_factory.mktemp("full_index")
    prepare(full_dataset, VERSION, folder)
    return folder


def _student_config(sensor: str) -> ModelConfig:
    name, changes = SHRUNK[sensor]
    return load_config(REPOSITORY / "config" / "model" / f"{name}.yaml", changes)


@pytest.fixture(scope="session")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained student of each sensor, whose random weights find a good many boxes."""
    folder = tmp_path_factory.mktemp("students")
    for sensor in SHRUNK:
        torch.manual_seed(4)
        config = _student_config(sensor)
        module = build_model(config)
        with torch.no_grad():
            for name, weights in module.named_parameters():
                if name.startswith("detection") and weights.ndim > 1:
                    weights.mul_(3)
        save_package(folder / sensor, module, config, trained_on={}, metrics={}, source_revision="test")
    return {sensor: folder / sensor for sensor in SHRUNK}


@pytest.fixture(scope="session")
def full_messages(full_bags: dict[str, Path]) -> dict[str, list[tuple[int, object]]]:
    """What is in the bag of scene-0061."""
    return messages_of(full_bags["scene-0061"])


@pytest.fixture(scope="session")
def tiny_index(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> FrameIndex:
    """The tiny dataset's index, with map masks drawn at random in place of a map expansion."""
    folder, = prepare(tiny_dataset, VERSION, tmp_path_factory.mktemp("index"), [SPLIT])
    manifest = json.loads((folder / "index.json").read_text())
    patches = np.random.default_rng(5).random((manifest["frames"], 6, 20, 20)) < 0.3
    masks = patches.repeat(10, axis=2).repeat(10, axis=3)
    np.save(folder / "map_masks.npy", np.stack([np.packbits(mask) for mask in masks]))
    (folder / "index.json").write_text(json.dumps(manifest | {"has_maps": True}))
    return FrameIndex.open(folder.parent, SPLIT)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a module of vexkd_ros as a process; its output is text. All are gone when the test is over."""
    processes = []

    def start_module(name: str, *arguments: object) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-m", f"vexkd_ros.{name}", *map(str, arguments)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        processes.append(process)
        return process

    yield start_module
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

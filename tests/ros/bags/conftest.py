"""Datasets, bags and students that the tests of bags share, and processes that end with a test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.bag_content import messages_of
from support.full_nuscenes import write_full_nuscenes
from support.street import FEW_THINGS, Drive
from support.tiny_nuscenes import write_tiny_nuscenes
from support.viewed_bags import write_viewed_bags

from vexkd_model.config import ModelConfig, load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.package import save_package
from vexkd_model.model import build_model
from vexkd_ros.bags.nuscenes_to_bag import convert

VERSION, SPLIT, SCENE = "v1.0-mini", "mini_val", "scene-0103"
CURVE = Drive(speed=8.0, turn=0.3, pitch=0.02, keyframe_s=0.15)
REPOSITORY = Path(__file__).parents[3]
COARSE = ["grid={extent: 54.0, cell: 1.8}"]
# The shipped configurations, shrunk; with history, for the camera student.
SHRUNK = {
    "lidar": ("lidar_pillar_small", [*COARSE, "lidar.sweeps=3", "lidar.encoder.pillar=1.8"]),
    "camera": ("bevdet4d_depth_small", [*COARSE, "camera.images.width=128", "camera.images.height=48"]),
}


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene of three keyframes and 9 sweeps at 20 Hz through a curve, with one camera and four objects; no map."""
    return write_tiny_nuscenes(
        tmp_path_factory.mktemp("tiny") / "data",
        {SCENE: 3},
        with_map=False,
        cameras=("CAM_FRONT",),
        things=FEW_THINGS,
        drive=CURVE,
    )


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
    (folder,) = prepare(tiny_dataset, VERSION, tmp_path_factory.mktemp("index"), [SPLIT])
    manifest = json.loads((folder / "index.json").read_text())
    patches = np.random.default_rng(5).random((manifest["frames"], 6, 20, 20)) < 0.3
    masks = patches.repeat(10, axis=2).repeat(10, axis=3)
    np.save(folder / "map_masks.npy", np.stack([np.packbits(mask) for mask in masks]))
    (folder / "index.json").write_text(json.dumps(manifest | {"has_maps": True}))
    return FrameIndex.open(folder.parent, SPLIT)


@pytest.fixture(scope="session")
def viewed_bags(tiny_dataset: Path, tiny_index: FrameIndex, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny scene, and what a student and a second camera, "eye", published in it."""
    return write_viewed_bags(tiny_dataset, tiny_index, tmp_path_factory.mktemp("viewed"))


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a module of vexkd_ros as a process; its output is text. All are gone when the test is over."""
    processes = []

    def start_module(name: str, *arguments: object) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", f"vexkd_ros.{name}", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start_module
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

"""Inputs of the demo: scenes, index and bags, made once and used again while they are whole."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.data.schema import open_nuscenes, scenes_of_split
from vexkd_model.data.splits import split_names
from vexkd_model.data.tables import tables_digest
from vexkd_model.errors import UserError
from vexkd_model.synth import synthesise
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.demo.steps import say

SEED = 7  # never a seed that the student was trained on
PLAYED = ("/lidar/points", "/tf", "/tf_static", "/odom", "/keyframe", "/ground_truth")  # to the node
MAPS, CAMERAS = "/ground_truth/map/*", "/cam_*"  # for the page


@dataclass(frozen=True)
class Dataset:
    """NuScenes folder and its version, v1.0-mini."""

    dataroot: Path
    version: str


def synthetic_scenes(dataroot: Path) -> Dataset:
    """Make the validation scenes of the demo's synthetic world."""
    say("make synthetic scenes")
    synthesise(dataroot, "demo", SEED, split="mini_val", workers=os.cpu_count() or 1)
    return Dataset(dataroot, "v1.0-mini")


def split_with_scenes(dataset: Dataset) -> str:
    """Return the validation split, or the other one where the dataset has no scene of it."""
    nusc = open_nuscenes(dataset.dataroot, dataset.version)
    names = split_names(dataset.dataroot, dataset.version)
    for split in reversed(names):
        if scenes_of_split(nusc, split):
            return split
    raise UserError(f"{dataset.dataroot}: {dataset.version} holds no scene of the splits {', '.join(names)}")


def forget_other_data(out: Path, dataset: Dataset) -> None:
    """Remove index and bags in OUT unless they were made from the very tables that the dataset has now."""
    digest, record = tables_digest(dataset.dataroot, dataset.version), out / "source.txt"
    source = f"{dataset.dataroot.resolve()} {dataset.version} {digest} {selected_topics(dataset)}\n"
    if not record.is_file() or record.read_text() != source:
        for folder in (out / "index", out / "bags"):
            shutil.rmtree(folder, ignore_errors=True)
        record.write_text(source)


def frame_index(dataset: Dataset, split: str, index_dir: Path) -> FrameIndex:
    """Open the index of a split; a damaged one is written anew."""
    say("index the keyframes")
    try:
        index = FrameIndex.open(index_dir, split)
        _ = index[len(index) - 1], index.map_mask(len(index) - 1)
        damaged = False
    except (UserError, OSError, ValueError, pa.ArrowException):
        damaged = True
    prepare(dataset.dataroot, dataset.version, index_dir, [split], force=damaged)
    return FrameIndex.open(index_dir, split)


def scene_bags(dataset: Dataset, split: str, folder: Path) -> list[Path]:
    """Write one bag a scene; a damaged one is written anew."""
    say("write bags")
    for bag in folder.glob("scene-*"):
        try:
            with open_bag(bag, whole=True):
                pass
        except UserError:
            shutil.rmtree(bag)
    return convert(
        dataset.dataroot, dataset.version, folder, split=split, selection=Selection(topics=selected_topics(dataset))
    )


def selected_topics(dataset: Dataset) -> tuple[str, ...]:
    """List the patterns of what goes into the bags: what is played, and what only the page shows."""
    sensors = json.loads((dataset.dataroot / dataset.version / "sensor.json").read_text(encoding="utf-8"))
    cameras = any(sensor["channel"].startswith("CAM_") for sensor in sensors)
    return (*PLAYED, MAPS, *([CAMERAS] if cameras else []))

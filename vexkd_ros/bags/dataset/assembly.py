"""Assembly of a dataset's tables from the records of its bags."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vexkd_model.data.scene_tables import TABLES, shared_tables, token, write_tables
from vexkd_model.data.splits import LIDAR, SPLITS
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file
from vexkd_ros.bags.dataset.wiring import Wiring

VAL_SHARE = 5  # one bag of so many is for evaluation


def assemble(out: Path, version: str, work: Path, wiring: Wiring, val: Sequence[str] | None) -> dict[str, list[str]]:
    """Write tables and splits of every finished bag; return the scenes of each split.

    val: names of bags or scenes for evaluation, by default the last ones. UserError for another name.
    """
    records = [json.loads(path.read_text()) for path in sorted((work / "bags").glob("*.json"))]
    records.sort(key=lambda record: record["scenes"][0]["start_us"])
    scenes_of = {Path(record["bag"]["path"]).name: record["scenes"] for record in records}
    splits = make_splits([[scene["name"] for scene in scenes] for scenes in scenes_of.values()], val)
    sensors = {
        **({} if wiring.lidars else {LIDAR: "lidar"}),
        **dict.fromkeys(wiring.lidars, "lidar"),
        **dict.fromkeys(wiring.cameras, "camera"),
    }
    tables = {name: [] for name in TABLES} | shared_tables(sensors)
    for scenes in scenes_of.values():
        for scene in scenes:
            for table, rows in scene["tables"].items():
                tables[table] += rows
    raster = f"maps/{token('map', version)}.png"
    tables["map"] = [
        {
            "token": token("map", version),
            "category": "semantic_prior",
            "filename": raster,
            "log_tokens": [log["token"] for log in tables["log"]],
        }
    ]
    _write_empty_raster(out / raster)
    write_tables(tables, out / version, work / "tables", {SPLITS: splits})
    return splits


def make_splits(bags: Sequence[Sequence[str]], val: Sequence[str] | None) -> dict[str, list[str]]:
    """Divide scenes into train and val: a fifth of the bags, the last, for evaluation; of one bag, of its scenes.

    bags: names of each one's scenes, in the order of time. val: names that are for evaluation, of a scene or of the
    bag that it was cut from. UserError for a name that is neither.
    """
    scenes = [name for names in bags for name in names]
    if val is not None:
        for name in val:
            if not any(_is_of(scene, name) for scene in scenes):
                raise UserError(f"--val {name}: no such scene; there are {', '.join(scenes)}")
        chosen = {scene for scene in scenes if any(_is_of(scene, name) for name in val)}
    else:
        groups = bags if len(bags) > 1 else [[name] for name in scenes]
        count = max(1, len(groups) // VAL_SHARE) if len(groups) > 1 else 0
        chosen = {name for names in groups[len(groups) - count :] for name in names}
    return {
        "train": [name for name in scenes if name not in chosen],
        "val": [name for name in scenes if name in chosen],
    }


def _is_of(scene: str, name: str) -> bool:
    stem, _, number = scene.rpartition("-")
    return scene == name or (stem == name and len(number) == 3 and number.isdigit())


def _write_empty_raster(path: Path) -> None:
    """Write the raster that the devkit wants of every map: one pixel, of which nothing is known."""
    with atomic_file(path) as partial:
        partial.write_bytes(cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes())

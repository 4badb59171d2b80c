"""Version folder of a dataset whose chosen scenes have machine-made annotations, in the nuScenes schema."""

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.utils.splits import create_splits_scenes

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.machine_made import MACHINE_MADE
from vexkd_model.data.scene_tables import Annotation, SceneTables, shared_tables, token
from vexkd_model.data.schema import CATEGORY_OF_CLASS
from vexkd_model.data.splits import SPLITS, SPLITS_OF_VERSION
from vexkd_model.evaluation.detection import ATTRIBUTES, MOVING_SPEED_MPS
from vexkd_model.files import replace_folder, write_json
from vexkd_model.geometry.boxes import points_in_boxes, transform_boxes
from vexkd_model.geometry.transforms import inverse
from vexkd_model.tracking.smoothing import SmoothTrack
from vexkd_model.types import DETECTION_CLASSES

CHANGED = ("category", "attribute", "instance", "sample_annotation")
UNKNOWN_POINTS = -1  # of a dataset without LiDAR files


@dataclass(frozen=True)
class LabelledScene:
    """Scene with the tracks that become its annotations. index: of this scene alone."""

    index: FrameIndex
    tracks: Sequence[SmoothTrack]


def write_version(
    dataroot: Path, version: str, out: str, scenes: Mapping[str, LabelledScene], mark: Mapping[str, Any], work: Path
) -> int:
    """Write the version `out` beside `version`, which must not be there yet; return the number of boxes.

    Other scenes keep their annotations, and all other tables are copied. mark: content of `machine_made.json`. work:
    folder on the same disk for what is not finished.
    """
    source, unfinished = Path(dataroot) / version, work / f"{out}.partial"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for path in source.glob("*.json"):
        if path.stem not in CHANGED and path.name != MACHINE_MADE:
            shutil.copyfile(path, unfinished / path.name)
    tables = {name: _read(source / f"{name}.json") for name in (*CHANGED, "sample", "scene")}
    _remove_annotations(tables, scenes)
    added = [scene_annotations(name, scene, out) for name, scene in scenes.items()]
    own = _own_tokens(tables)
    for rows in added:
        for instance in rows["instance"]:
            instance["category_token"] = own[instance["category_token"]]
        for annotation in rows["sample_annotation"]:
            annotation["attribute_tokens"] = [own[attribute] for attribute in annotation["attribute_tokens"]]
        for name in ("instance", "sample_annotation"):
            tables[name] += rows[name]
    for name in CHANGED:
        write_json(unfinished / f"{name}.json", tables[name], indent=None)
    write_json(unfinished / MACHINE_MADE, mark)
    if not (source / SPLITS).is_file():
        write_json(unfinished / SPLITS, _official_splits(version, [scene["name"] for scene in tables["scene"]]))
    replace_folder(unfinished, Path(dataroot) / out)
    return sum(len(rows["sample_annotation"]) for rows in added)


def scene_annotations(name: str, scene: LabelledScene, out: str) -> dict[str, list[dict]]:
    """Make the rows of `instance` and `sample_annotation` of a scene; out: name of the version, for the tokens."""
    tables, frames = SceneTables(name, ("autolabel", out)), [scene.index[k] for k in range(len(scene.index))]
    points = _point_counts(scene, frames)
    for track in scene.tracks:
        class_name = DETECTION_CLASSES[track.label]
        moving, otherwise = ATTRIBUTES[class_name]
        annotations = []
        for k, box, score in zip(range(track.first, len(frames)), track.boxes.tolist(), track.scores, strict=False):
            x, y, z, length, width, height, yaw, vx, vy = box
            annotations.append(
                Annotation(
                    k,
                    frames[k].token,
                    [x, y, z],
                    [width, length, height],
                    [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)],
                    points[track.number, k],
                    attribute=moving if np.hypot(vx, vy) > MOVING_SPEED_MPS else otherwise,
                    score=round(float(score), 4),
                )
            )
        tables.add_instance(track.number, CATEGORY_OF_CLASS[class_name], annotations)
    return {name: tables.rows[name] for name in ("instance", "sample_annotation")}


def _point_counts(scene: LabelledScene, frames: Sequence) -> dict[tuple[int, int], int]:
    """Number of LiDAR points of the keyframe's own sweep in the box of each track, by its number and the keyframe."""
    counts: dict[tuple[int, int], int] = {}
    has_lidar = scene.index.inventory.points is not None
    for k, frame in enumerate(frames):
        there = [track for track in scene.tracks if 0 <= k - track.first < len(track.boxes)]
        if has_lidar and there:
            boxes = np.stack([track.boxes[k - track.first] for track in there])
            inside = points_in_boxes(frame.load_points(1), transform_boxes(inverse(frame.global_from_base), boxes))
            numbers = inside.sum(axis=1).tolist()
        else:
            numbers = [UNKNOWN_POINTS] * len(there)
        counts |= {(track.number, k): number for track, number in zip(there, numbers, strict=True)}
    return counts


def _remove_annotations(tables: dict[str, list[dict]], scenes: Mapping[str, LabelledScene]) -> None:
    replaced = {scene["token"] for scene in tables["scene"] if scene["name"] in scenes}
    samples = {sample["token"] for sample in tables["sample"] if sample["scene_token"] in replaced}
    gone = {row["instance_token"] for row in tables["sample_annotation"] if row["sample_token"] in samples}
    tables["sample_annotation"] = [row for row in tables["sample_annotation"] if row["sample_token"] not in samples]
    tables["instance"] = [row for row in tables["instance"] if row["token"] not in gone]


def _official_splits(version: str, present: Collection[str]) -> dict[str, list[str]]:
    """Scenes of nuScenes' splits of a version of nuScenes, which a version of another name has to state."""
    official = create_splits_scenes()
    return {split: [name for name in official[split] if name in present] for split in SPLITS_OF_VERSION[version]}


def _own_tokens(tables: dict[str, list[dict]]) -> dict[str, str]:
    """Tokens that the dataset has for our categories and attributes; those that it lacks get a row."""
    ours, own = shared_tables({}), {}
    for table in ("category", "attribute"):
        known = {row["name"]: row["token"] for row in tables[table]}
        tables[table] += [row for row in ours[table] if row["name"] not in known]
        own |= {token(table, row["name"]): known.get(row["name"], row["token"]) for row in ours[table]}
    return own


def _read(path: Path) -> list[dict]:
    return json.loads(path.read_text()) if path.is_file() else []

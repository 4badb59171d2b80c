"""Official nuScenes tracking metrics: tracks in base_link → submission → the unmodified devkit's AMOTA."""

import contextlib
import copy
import io
import math
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.loaders import get_samples_of_scenes

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.schema import open_nuscenes
from vexkd_model.data.splits import SPLITS
from vexkd_model.errors import UserError
from vexkd_model.evaluation.detection import MAX_BOXES_PER_SAMPLE, official_boxes
from vexkd_model.evaluation.motion_errors import MotionErrors
from vexkd_model.files import write_json
from vexkd_model.types import DETECTION_CLASSES, TRACKING_CLASSES, Boxes

NEEDED = ("motmetrics", "pandas")  # by the devkit's tracking metrics alone
FAR_AWAY = {
    "translation": [1e7, 1e7, 0.0],
    "size": [1.0, 1.0, 1.0],
    "rotation": [1.0, 0.0, 0.0, 0.0],
    "velocity": [0.0, 0.0],
    "tracking_id": "none",
    "tracking_name": "car",
    "tracking_score": 0.0,
}
SUMMED = ("ids", "frag", "tp", "fp", "fn")
CLASS_METRICS = ("amota", "amotp", "mota", "recall", "ids", "gt")


@dataclass(frozen=True)
class Tracks:
    """Tracked objects of one keyframe.

    boxes: in base_link, filtered. scores: float32 (M,). numbers: int64 (M,), the same for an object at all times.
    """

    token: str
    boxes: Boxes
    scores: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class TrackingResult:
    """Figures of `TrackingEval` with its configuration tracking_nips_2019.

    amota, amotp [m]: means over the classes that are annotated, as mota, motp [m] and recall, which the devkit takes at
        the score of best MOTA of each class; there, too, the sums: ids (identity switches), frag (interruptions), tp,
        fp, fn.
    ids_per_minute: of driving, all objects together. minutes: of the scenes that were scored.
    class_metrics: amota, amotp, mota, recall, ids and gt (annotated boxes) of each class; None where undefined.
    motion: errors of velocities and headings before and after tracking, where the detections are known.
    """

    amota: float
    amotp: float
    mota: float
    motp: float
    recall: float
    ids: int
    frag: int
    tp: int
    fp: int
    fn: int
    ids_per_minute: float
    minutes: float
    class_metrics: dict[str, dict[str, float | None]]
    motion: MotionErrors | None = None

    def to_dict(self) -> dict:
        """Convert to plain dictionaries and numbers, for JSON."""
        return asdict(self)


def check_installed() -> None:
    """Raise UserError without the packages that the devkit scores tracks with."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"{missing[0]} is not installed, with which tracks are scored: pip install vexkd_ros[tracking]")


def tracking_submission(tracks: Iterable[Tracks], index: FrameIndex) -> dict:
    """Make the official submission of tracking; only its seven classes count. UserError of a strange token or two."""
    poses = {record.token: record.global_from_base for record in (index[i] for i in range(len(index)))}
    results: dict[str, list[dict]] = {}
    for one in tracks:
        if one.token not in poses:
            raise UserError(f"sample {one.token!r}: tracked, but not in the split {index.split}")
        if one.token in results:
            raise UserError(f"sample {one.token!r}: tracked twice; replay every scene once")
        results[one.token] = _sample_results(one, poses[one.token])
    return {"meta": {}, "results": results}


def _sample_results(tracks: Tracks, global_from_base: np.ndarray) -> list[dict]:
    names = np.array(DETECTION_CLASSES)[tracks.boxes.labels]
    counted = np.flatnonzero(np.isin(names, TRACKING_CLASSES))
    best = counted[np.argsort(-tracks.scores[counted], kind="stable")][:MAX_BOXES_PER_SAMPLE]
    boxes = official_boxes(tracks.token, tracks.boxes.values[best], global_from_base)
    return [
        {**box, "tracking_id": str(tracks.numbers[i]), "tracking_name": str(names[i]), "tracking_score": score}
        for i, box, score in zip(best, boxes, tracks.scores[best].tolist(), strict=True)
    ]


def score_tracks(
    tracks: Iterable[Tracks], index: FrameIndex, motion: MotionErrors | None = None
) -> TrackingResult | None:
    """Score tracks of every keyframe of the index. None where none of the seven classes is annotated.

    motion: kept in the result. Keyframes that the index leaves out (`vexkd prepare --skip-bad`) count as empty.
    UserError: no pandas or motmetrics, a keyframe without tracks, one twice, or one that is not in the index.
    """
    check_installed()
    document = tracking_submission(tracks, index)
    untracked = [token for token in index.column("token") if token not in document["results"]]
    if untracked:
        raise UserError(f"{len(untracked)} keyframes of {index.split} have no tracks (the first is {untracked[0]})")
    with tempfile.TemporaryDirectory() as work_dir:
        metrics = _official_metrics(document, index, Path(work_dir))
    if metrics is None:
        return None
    minutes = _minutes(index)
    sums = {name: round(metrics[name]) for name in SUMMED}
    means = {name: metrics[name] for name in ("amota", "amotp", "mota", "motp", "recall")}
    of_class = {
        name: {key: _known(metrics["label_metrics"][key][name]) for key in CLASS_METRICS} for name in TRACKING_CLASSES
    }
    return TrackingResult(
        **means, **sums, ids_per_minute=sums["ids"] / minutes, minutes=minutes, class_metrics=of_class, motion=motion
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _minutes(index: FrameIndex) -> float:
    """Sum the times from the first to the last keyframe of each scene [min]."""
    of_scene: dict[str, list[int]] = {}
    for scene, stamp in zip(index.column("scene"), index.column("stamp_ns"), strict=True):
        of_scene.setdefault(scene, []).append(stamp)
    return sum(max(stamps) - min(stamps) for stamps in of_scene.values()) * 1e-9 / 60


def _official_metrics(document: dict, index: FrameIndex, work_dir: Path) -> dict[str, Any] | None:
    """Run the devkit on the index' scenes alone, as a split of its `splits.json`; None of nothing annotated."""
    from nuscenes.eval.tracking import evaluate
    from nuscenes.eval.tracking.data_classes import TrackingConfig

    nusc = open_nuscenes(index.dataroot, index.version)
    scenes = sorted(set(index.column("scene")))
    everything = dict.fromkeys(get_samples_of_scenes(scenes, nusc), ())
    path, config = work_dir / "submission.json", config_factory("tracking_nips_2019")
    assert isinstance(config, TrackingConfig)
    results = {**everything, **document["results"]}
    if not any(results.values()):  # the devkit cannot tell the box type of an empty set; this one is out of all ranges
        results[next(iter(results))] = [FAR_AWAY | {"sample_token": next(iter(results))}]
    write_json(path, {**document, "results": results})
    write_json(work_dir / nusc.version / SPLITS, {"scored": scenes})
    beside = copy.copy(nusc)
    beside.dataroot = str(work_dir)
    # The devkit opens the tables by itself, which takes nuScenes' own names alone and all files of a map.
    with (
        patch.object(evaluate, "NuScenes", lambda **_: beside),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        run = evaluate.TrackingEval(
            config, str(path), "scored", str(work_dir), nusc.version, str(work_dir), verbose=False
        )
        if not any(boxes for scene in run.tracks_gt.values() for boxes in scene.values()):
            return None
        return run.evaluate()[0].serialize()

"""Detections of a teacher on every keyframe of a scene, kept on the disk so that an interrupted run goes on."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file
from vexkd_model.types import Boxes


@dataclass(frozen=True)
class SceneDetections:
    """Detections of one scene, K keyframes in the order of time.

    stamps_ns: int64 (K,). global_from_base: float64 (K, 4, 4). found: in base_link of each keyframe; scores: of each.
    """

    tokens: list[str]
    stamps_ns: list[int]
    global_from_base: np.ndarray
    found: list[Boxes]
    scores: list[np.ndarray]


def detect_scene(predictor: Predictor, scene: FrameIndex, kept: Path) -> SceneDetections:
    """Detect the objects of a scene, or read the detections from the file `kept` where they are there.

    scene: index of this scene alone.
    """
    if not kept.is_file():
        predictions = [predictor.predict(load_frame(scene, i, predictor.config)) for i in range(len(scene))]
        columns = {
            "count": np.array([len(prediction.boxes) for prediction in predictions]),
            "values": np.concatenate([prediction.boxes.values for prediction in predictions]),
            "labels": np.concatenate([prediction.boxes.labels for prediction in predictions]),
            "scores": np.concatenate([prediction.scores for prediction in predictions]),
        }
        with atomic_file(kept) as partial, partial.open("wb") as file:
            np.savez(file, **columns)
    return _read(scene, kept)


def _read(scene: FrameIndex, kept: Path) -> SceneDetections:
    try:
        with np.load(kept) as columns:
            ends = np.cumsum(columns["count"])[:-1]
            values, labels, scores = (np.split(columns[name], ends) for name in ("values", "labels", "scores"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{kept}: cannot be read ({error}); remove it, the same command makes it again") from None
    return SceneDetections(
        scene.column("token"),
        scene.column("stamp_ns"),
        np.stack([np.reshape(poses[0], (4, 4)) for poses in scene.column("odom_from_base")]),
        [Boxes(*boxes) for boxes in zip(values, labels, strict=True)],
        scores,
    )

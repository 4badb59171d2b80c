"""`vexkd autolabel`: a teacher's detections, tracked and smoothed, as annotations of a version of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vexkd_model.autolabel.detections import SceneDetections, detect_scene
from vexkd_model.autolabel.labels import boxes_at, label_scene, reaching
from vexkd_model.autolabel.quality import ClassQuality, Outcomes, best_thresholds, outcomes_of_frame, quality, together
from vexkd_model.autolabel.tables import LabelledScene, write_version
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.machine_made import machine_made, machine_made_scenes
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.files import locked
from vexkd_model.geometry.boxes import points_in_boxes
from vexkd_model.progress import progress
from vexkd_model.tracking.smoothing import SmoothTrack
from vexkd_model.types import DETECTION_CLASSES, Boxes

DEFAULT_SCORE = 0.35  # where nothing is known of a class
WORK = ".autolabel"  # in the dataset: what teachers detected, a folder a teacher
MOST_ANNOTATED = 40  # scenes to choose thresholds on


@dataclass(frozen=True)
class Job:
    """Scenes by name, with an index of each alone.

    wanted: to be labelled. annotated: others, which people annotated, to choose thresholds on. judged: names of those
    on which labels are compared with the truth: wanted ones where possible, else annotated ones.
    """

    wanted: dict[str, FrameIndex]
    annotated: dict[str, FrameIndex]
    judged: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """Result of labelling: numbers of boxes, and how good they are.

    thresholds: least score a class of tracks. chosen_on: true boxes a class behind each, 0 for the default. before,
    after: figures by class of the detections as they are and of the labels, on `judged` scenes; empty without truth.
    """

    scenes: list[str]
    tracks: int
    boxes: int
    thresholds: dict[str, float]
    chosen_on: dict[str, int]
    judged: list[str]
    before: dict[str, ClassQuality]
    after: dict[str, ClassQuality]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain dictionaries and numbers, for JSON."""
        figures = {
            side: {name: figure._asdict() for name, figure in getattr(self, side).items()}
            for side in ("before", "after")
        }
        return {**vars(self), **figures}


def plan(indices: Sequence[FrameIndex], split: str | None, scenes: Sequence[str] | None) -> Job:
    """Choose the scenes to label: those named, of `split`, or by default all without annotations.

    indices: of all prepared splits of one version. UserError for a name that is not there, and for nothing to label.
    """
    of_scene = {name: index for index in indices for name in dict.fromkeys(index.column("scene"))}
    tables = indices[0].dataroot / indices[0].version
    made = machine_made_scenes(indices[0].dataroot, indices[0].version)
    annotated = {
        name
        for index in indices
        for name, labels in zip(index.column("scene"), index.column("labels"), strict=True)
        if labels and name not in made
    }
    if scenes is not None:
        strange = [name for name in scenes if name not in of_scene]
        if strange:
            raise UserError(f"--scenes {strange[0]}: in no prepared split; there are {', '.join(list(of_scene)[:5])} …")
        wanted = list(scenes)
    elif split is not None:
        wanted = [name for name, index in of_scene.items() if index.split == split]
    else:
        wanted = [name for name in of_scene if name not in annotated]
    if not wanted:
        raise UserError(f"{tables}: every scene has annotations; choose scenes to label by --split or --scenes")
    others = sorted(annotated - set(wanted))
    spread = others[:: -(-len(others) // MOST_ANNOTATED)] if others else []
    judged = [name for name in wanted if name in annotated] or spread
    alone = [{name: of_scene[name].of_scenes([name]) for name in names} for names in (wanted, spread)]
    return Job(alone[0], alone[1], tuple(judged))


def autolabel(
    predictor: Predictor, teacher: Mapping[str, str], job: Job, out: str, command: str, score: float | None = None
) -> Result:
    """Label the job's scenes in a new version `out` of their dataset.

    teacher: its name, place and fingerprint. command: that was given, for the mark. score: threshold of all classes,
    instead of chosen ones. Detections are kept in the dataset, so that an interrupted run goes on.
    """
    first = next(iter(job.wanted.values()))
    if (first.dataroot / out).exists():
        raise UserError(f"{first.dataroot / out}: is there already; choose another --out-version, or remove it")
    work = first.dataroot / WORK
    with locked(work / ".lock", f"{work}: another vexkd autolabel is writing there; wait for it"):
        kept = work / f"{teacher['fingerprint'][:16]}-{first.tables[:16]}-{predictor.runtime.split()[-1]}"
        scenes = {**job.annotated, **job.wanted}
        detections = {
            name: detect_scene(predictor, index, kept / f"{name}.npz")
            for name, index in progress(scenes.items(), "detect", len(scenes), "scenes")
        }
        tracks = {name: label_scene(found) for name, found in detections.items()}
        raw, chosen = _thresholds(job.annotated, detections, tracks, score)
        labels = {name: reaching(of_scene, chosen[0]) for name, of_scene in tracks.items()}
        wanted = {name: LabelledScene(index, labels[name]) for name, index in job.wanted.items()}
        before = [_outcomes(scenes[name], _as_detected(detections[name])) for name in job.judged]
        after = [_outcomes(scenes[name], _as_labelled(detections[name], labels[name])) for name in job.judged]
        result = Result(
            list(job.wanted),
            sum(len(scene.tracks) for scene in wanted.values()),
            sum(len(track.boxes) for scene in wanted.values() for track in scene.tracks),
            *chosen,
            list(job.judged),
            quality(together(before), raw[0]) if before else {},
            quality(together(after), {name: 0.0 for name in DETECTION_CLASSES}) if after else {},
        )
        made = machine_made(first.dataroot, first.version)
        mark = {
            **result.to_dict(),
            "scenes": sorted({*made.get("scenes", ()), *job.wanted}),
            "made_from": first.version,
            "teacher": dict(teacher),
            "command": command,
        }
        write_version(first.dataroot, first.version, out, wanted, mark, work)
    return result


FrameBoxes = Callable[[int], tuple[Boxes, np.ndarray]]  # boxes of keyframe k in base_link, and their scores


def _as_detected(detections: SceneDetections) -> FrameBoxes:
    return lambda k: (detections.found[k], detections.scores[k])


def _as_labelled(detections: SceneDetections, tracks: Sequence[SmoothTrack]) -> FrameBoxes:
    return lambda k: boxes_at(tracks, k, detections.global_from_base[k])


def _outcomes(scene: FrameIndex, boxes_of: FrameBoxes) -> Outcomes:
    """Compare the boxes of a scene with its annotation."""
    has_lidar = scene.inventory.points is not None
    outcomes = []
    for k in range(len(scene)):
        record, (boxes, scores) = scene[k], boxes_of(k)
        seen = np.ones(len(boxes), bool)
        if has_lidar:
            seen = points_in_boxes(record.load_points(1), boxes.values).any(axis=1)
        outcomes.append(outcomes_of_frame(boxes, scores, seen, record))
    return together(outcomes)


Thresholds = tuple[dict[str, float], dict[str, int]]  # by class: least score, and true boxes behind it


def _thresholds(
    annotated: Mapping[str, FrameIndex],
    detections: Mapping[str, SceneDetections],
    tracks: Mapping[str, Sequence[SmoothTrack]],
    score: float | None,
) -> tuple[Thresholds, Thresholds]:
    """Choose the thresholds of detections and of tracks on annotated scenes, or take `score` for both."""
    if score is not None or not annotated:
        fixed = DEFAULT_SCORE if score is None else score
        unchosen = {name: fixed for name in DETECTION_CLASSES}, {name: 0 for name in DETECTION_CLASSES}
        return unchosen, unchosen
    before, after = [], []
    for name, index in progress(annotated.items(), "thresholds", len(annotated), "scenes"):
        before.append(_outcomes(index, _as_detected(detections[name])))
        after.append(_outcomes(index, _as_labelled(detections[name], tracks[name])))
    return best_thresholds(together(before), DEFAULT_SCORE), best_thresholds(together(after), DEFAULT_SCORE)

"""`vexkd autolabel`: a teacher's detections, tracked and smoothed, as annotations of a version of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vexkd_model.autolabel.detections import SceneDetections, detect_scene
from vexkd_model.autolabel.labels import boxes_at, label_scene, reaching
from vexkd_model.autolabel.quality import ClassQuality, Outcomes, best_threshold, outcomes_of_frame, quality, together
from vexkd_model.autolabel.tables import LabelledScene, write_version
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.machine_made import machine_made, machine_made_scenes
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.files import locked
from vexkd_model.geometry.boxes import points_in_boxes
from vexkd_model.progress import progress
from vexkd_model.tracking.smoothing import SmoothTrack
from vexkd_model.types import DETECTION_CLASSES

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
    """What was labelled, and how well.

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
    return Job(*({name: of_scene[name].of_scenes([name]) for name in names} for names in (wanted, spread)), tuple(judged))


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
        outcomes = {
            name: _outcomes(scenes[name], detections[name], tracks[name])
            for name in progress({**job.annotated, **dict.fromkeys(job.judged)}, "compare", unit="scenes")
        }
        raw, chosen = (_thresholds([outcomes[name][side] for name in job.annotated], score) for side in (0, 1))
        labelled = {
            name: LabelledScene(index, reaching(tracks[name], chosen[0])) for name, index in job.wanted.items()
        }
        result = Result(
            list(job.wanted),
            sum(len(scene.tracks) for scene in labelled.values()),
            sum(len(track.boxes) for scene in labelled.values() for track in scene.tracks),
            *chosen,
            list(job.judged),
            *(
                quality(together([outcomes[name][side] for name in job.judged]), thresholds) if job.judged else {}
                for side, (thresholds, _) in enumerate((raw, chosen))
            ),
        )
        made = machine_made(first.dataroot, first.version)
        mark = {
            **result.to_dict(),
            "scenes": sorted({*made.get("scenes", ()), *job.wanted}),
            "made_from": first.version,
            "teacher": dict(teacher),
            "command": command,
        }
        write_version(first.dataroot, first.version, out, labelled, mark, work)
    return result


def _outcomes(scene: FrameIndex, detected: SceneDetections, tracks: Sequence[SmoothTrack]) -> tuple[Outcomes, Outcomes]:
    """Compare a scene's detections as they are, and its tracks, with its annotation."""
    has_lidar = scene.inventory.points is not None
    before, after = [], []
    for k in range(len(scene)):
        record = scene[k]
        points = record.load_points(1) if has_lidar else None
        for side, boxes, scores in (
            (before, detected.found[k], detected.scores[k]),
            (after, *boxes_at(tracks, k, record.global_from_base)),
        ):
            seen = np.ones(len(boxes), bool) if points is None else points_in_boxes(points, boxes.values).any(axis=1)
            side.append(outcomes_of_frame(boxes, scores, seen, record))
    return together(before), together(after)


def _thresholds(outcomes: Sequence[Outcomes], score: float | None) -> tuple[dict[str, float], dict[str, int]]:
    """Threshold of each class, and the number of true boxes that it was chosen on, 0 where it was not."""
    thresholds, chosen_on = dict.fromkeys(DETECTION_CLASSES, score or DEFAULT_SCORE), dict.fromkeys(DETECTION_CLASSES, 0)
    if outcomes and score is None:
        known = together(outcomes)
        for label, name in enumerate(DETECTION_CLASSES):
            best = best_threshold(known, label)
            if best is not None:
                thresholds[name], chosen_on[name] = best, int(known.true[label])
    return thresholds, chosen_on

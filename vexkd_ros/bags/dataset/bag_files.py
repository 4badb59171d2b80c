"""One bag's part of a dataset, whole or absent: its files in place, its rows in a record that comes last."""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vexkd_model.errors import UserError
from vexkd_model.files import full_disk_named, write_json
from vexkd_model.process import keep_freed_memory
from vexkd_ros.bags.dataset.annotations import boxes_at_keyframes, check_labels
from vexkd_ros.bags.dataset.checks import check_recording
from vexkd_ros.bags.dataset.labels.files import file_frames, fingerprint
from vexkd_ros.bags.dataset.labels.labelled import LabelledFrame
from vexkd_ros.bags.dataset.labels.topic import topic_frames
from vexkd_ros.bags.dataset.pictures import PictureFormat
from vexkd_ros.bags.dataset.plan import Capture, make_plan, place_messages
from vexkd_ros.bags.dataset.recording import Recording, read_recording
from vexkd_ros.bags.dataset.scene_rows import scene_tables
from vexkd_ros.bags.dataset.sensor_files import SensorFiles
from vexkd_ros.bags.dataset.wiring import Wiring


@dataclass(frozen=True)
class Settings:
    """Settings of a dataset. rate: keyframes a second. scene_length [s]: None for a scene a bag."""

    rate: float = 2.0
    scene_length: float | None = None
    pictures: PictureFormat = field(default_factory=PictureFormat)

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class BagJob:
    """Bag to be converted. name: of its scene. out: folder of the dataset. work: folder for what is not finished."""

    bag: Path
    name: str
    out: Path
    work: Path
    version: str
    wiring: Wiring
    settings: Settings
    shows_progress: bool

    @property
    def record(self) -> Path:
        """Return the path of the file whose presence says that the bag is complete."""
        return self.work / "bags" / f"{self.name}.json"


def write_bag(job: BagJob) -> None:
    """Convert a bag; say what is in it and how long it took. UserError where it cannot be."""
    keep_freed_memory()
    begun = time.monotonic()
    recording = read_recording(job.bag, job.wiring)
    check_recording(recording)
    placed = place_messages(recording)
    labels = _labels(job, recording, placed)
    annotated = [frame.stamp_ns for frame in labels]
    plan = make_plan(recording, placed, annotated, job.settings.rate, job.settings.scene_length)
    boxes = boxes_at_keyframes(recording, labels, [stamp for keyframes in plan.scenes for stamp in keyframes])
    partial = job.work / "partial" / job.name
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with full_disk_named(partial):
            files = SensorFiles(recording, partial, job.name, job.settings.pictures, boxes).write(
                plan, f"convert {job.name}" if job.shows_progress else None
            )
        scenes = []
        for i, keyframes in enumerate(plan.scenes):
            name = f"{job.name}-{i:03d}" if len(plan.scenes) > 1 else job.name
            within = set(keyframes)
            of_scene = [file for file in files if file.capture.keyframe_ns in within]
            tables = scene_tables(name, f"bag/{job.version}", job.name, job.wiring, keyframes, of_scene, boxes)
            if tables:
                scenes.append({"name": name, "start_us": keyframes[0] // 1000, "tables": tables.rows})
        if not scenes:
            raise UserError(f"{job.bag}: every keyframe of {job.wiring.reference} is damaged; mend who publishes it")
        _move_into_place(partial, job.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    record = {"bag": identity(job.bag), "labels": fingerprint(job.wiring.annotations, job.name), "scenes": scenes}
    write_json(job.record, record, indent=None)
    samples, annotations = (
        sum(len(scene["tables"][table]) for scene in scenes) for table in ("sample", "sample_annotation")
    )
    print(
        f"{job.name}: {len(scenes)} scene{'s' if len(scenes) > 1 else ''}, {samples} keyframes, {len(files)} files, "
        f"{annotations} annotations in {time.monotonic() - begun:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def read_record(job: BagJob) -> dict | None:
    """Read the record of a complete bag; None where there is none. UserError where it is of another bag."""
    try:
        record = json.loads(job.record.read_text())
    except FileNotFoundError:
        return None
    if record["bag"]["bytes"] != identity(job.bag)["bytes"]:
        raise UserError(
            f"{job.bag}: {job.name} of {job.out} was made of {record['bag']['path']}, or of an earlier state of it; "
            "rename the bag, or choose another --version"
        )
    if record["labels"] != fingerprint(job.wiring.annotations, job.name):
        raise UserError(f"{job.bag}: its labels have changed since {job.name} was written; choose another --version")
    return record


def _labels(job: BagJob, recording: Recording, placed: Mapping[str, list[Capture]]) -> list[LabelledFrame]:
    """Read what was labelled, on a topic or in files, in the order of time. UserError where it is wrong."""
    annotations = job.wiring.annotations
    if annotations is None:
        return []
    if annotations.topic:
        labels = topic_frames(recording, annotations.topic)
    else:
        stamps = [capture.stamp_ns for capture in placed[job.wiring.reference]]
        labels = file_frames(recording, job.name, stamps, job.settings.rate)
    check_labels(labels, job.wiring)
    return labels


def identity(bag: Path) -> dict:
    """Describe a bag so that another one, or a changed one, differs."""
    files = sorted(path for path in bag.iterdir() if path.is_file()) if bag.is_dir() else [bag]
    return {"path": str(bag.resolve()), "bytes": sum(path.stat().st_size for path in files)}


def _move_into_place(partial: Path, out: Path) -> None:
    for source in sorted(path for path in partial.rglob("*") if path.is_file()):
        target = out / source.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)

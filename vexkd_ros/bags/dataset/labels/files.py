"""Files of annotation tools: where a bag's are, in which format, and what they say."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from vexkd_model.errors import UserError
from vexkd_ros.bags.dataset.labels.datumaro import read_datumaro
from vexkd_ros.bags.dataset.labels.json_objects import read_json
from vexkd_ros.bags.dataset.labels.kitti import read_kitti
from vexkd_ros.bags.dataset.labels.labelled import FileFrame, LabelledFrame
from vexkd_ros.bags.dataset.labels.moments import Moments, read_timestamps
from vexkd_ros.bags.dataset.labels.sustechpoints import read_sustechpoints
from vexkd_ros.bags.dataset.plan import at_rate
from vexkd_ros.bags.dataset.recording import Recording
from vexkd_ros.bags.dataset.wiring import BAG, AnnotationWiring

READERS = {"kitti": read_kitti, "sustechpoints": read_sustechpoints, "datumaro": read_datumaro}
SUFFIXES = (".json", ".txt")
TIMESTAMPS = "timestamps.txt"  # KITTI's, beside labels
FOLDERS = ("label", "annotations", ".")  # of SUSTechPOINTS and Datumaro inside what they export


def file_frames(recording: Recording, name: str, placed: Sequence[int], rate: float) -> list[LabelledFrame]:
    """Read a bag's files, in the order of time; none where their folder is empty.

    name: of the bag. placed: stamps [ns] of the clouds that can be keyframes, `rate` a second. UserError names file and
    line, or key, of what cannot be used.
    """
    annotations, reference = recording.wiring.annotations, recording.wiring.reference
    assert annotations is not None
    files = label_files(annotations, name)
    if not files:
        print(f"{recording.bag}: no labels in {_path(annotations, name)}", file=sys.stderr)
        return []
    chosen = annotations.format or guess_format(files)
    frames = READERS[chosen](files, _frame(recording, annotations, chosen))
    _check_ids(frames)
    clouds = sorted(set(recording.heard(recording.wiring.main_topic(reference)).stamps))
    moments = Moments(clouds, clouds, annotations.first, f"messages of {reference} in {recording.bag}")
    if annotations.timestamps:
        file = Path(annotations.timestamps.replace(BAG, name))
        moments = Moments(clouds, read_timestamps(file, clouds), annotations.first, f"lines of {file}")
    elif annotations.numbers == "keyframes":
        kind = f"keyframes of {recording.bag} at --rate {rate:g}"
        moments = Moments(clouds, at_rate(placed, rate), annotations.first, kind)
    labelled = moments.frames(frames)
    if empty := sum(not frame.boxes for frame in labelled):
        print(f"{recording.bag}: {empty} of {len(labelled)} labelled frames are without any box", file=sys.stderr)
    return labelled


def label_files(annotations: AnnotationWiring, name: str) -> list[Path]:
    """List a bag's files in the order of their names; UserError where there is nothing, or nothing that can be read."""
    path = _path(annotations, name)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"{path}: no such file or folder; correct annotations.path in the file of --sensors, or make it an empty "
            f"folder if nobody labelled {name}"
        )
    for folder in FOLDERS:
        files = sorted(
            file for file in (path / folder).glob("*") if file.suffix in SUFFIXES and file.name != TIMESTAMPS
        )
        if files:
            return files
    if others := sorted(one.name for one in path.iterdir() if one.name != TIMESTAMPS):
        raise UserError(
            f"{path}: {others[0]} is no label file; give *.txt of KITTI, or *.json of SUSTechPOINTS or CVAT"
        )
    return []


def guess_format(files: Sequence[Path]) -> str:
    """Guess the format by suffix and content; UserError where files are of none, or of two."""
    suffixes = {file.suffix for file in files}
    if len(suffixes) > 1:
        raise UserError(f"{files[0].parent}: holds .json and .txt; leave one of the two there")
    if suffixes == {".txt"}:
        return "kitti"
    if suffixes != {".json"}:
        hint = "; of CVAT, export Datumaro 3D, for its KITTI Raw has no track ids" if suffixes == {".xml"} else ""
        raise UserError(f"{files[0]}: is none of KITTI's *.txt and SUSTechPOINTS' or CVAT's *.json{hint}")
    first = read_json(files[0])
    return "datumaro" if isinstance(first, dict) and "items" in first else "sustechpoints"


def fingerprint(annotations: AnnotationWiring | None, name: str) -> str:
    """Fingerprint a bag's files, so that changed labels are noticed; '' without files."""
    if annotations is None or annotations.path is None:
        return ""
    content = hashlib.sha256()
    timestamps = [Path(annotations.timestamps.replace(BAG, name))] if annotations.timestamps else []
    for file in (*label_files(annotations, name), *(file for file in timestamps if file.is_file())):
        content.update(f"{file.name}:{file.stat().st_size}:".encode() + file.read_bytes())
    return content.hexdigest()


def _path(annotations: AnnotationWiring, name: str) -> Path:
    return Path((annotations.path or "").replace(BAG, name))


def _frame(recording: Recording, annotations: AnnotationWiring, chosen: str) -> str:
    """Return the frame of TF that the boxes are in."""
    wiring, frame = recording.wiring, annotations.frame
    if frame is None and (chosen == "kitti" or not wiring.lidars):
        kind = "a camera" if chosen == "kitti" else "a LiDAR"
        raise UserError(
            f"{_path(annotations, recording.bag.stem)}: the boxes are in the frame of {kind}; say of which, "
            "annotations.frame in the file of --sensors: the name of a sensor, or a frame of TF"
        )
    sensor = frame or wiring.reference
    return recording.frame(wiring.main_topic(sensor)) if sensor in wiring.sensors else sensor


def _check_ids(frames: Sequence[FileFrame]) -> None:
    """Raise UserError for a box without an id where others have one: it was forgotten."""
    boxes = [box for frame in frames for box in frame.boxes]
    without = [box for box in boxes if not box.instance]
    if without and len(without) < len(boxes):
        raise UserError(
            f"{without[0].where}: {without[0].category} has no id ({len(without)} of {len(boxes)} boxes have none); "
            "give it that of its object; only where no box has one, each is an object of its own"
        )

"""Database of the LiDAR points of every annotated object of a split, memory-mapped, for ground-truth pasting."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vexkd_model.data.index import FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.files import locked
from vexkd_model.geometry.boxes import points_in_boxes
from vexkd_model.parallel import in_parallel
from vexkd_model.progress import progress
from vexkd_model.types import POINT_FIELDS

FRAMES_PER_JOB = 40


class PointDatabase:
    """Boxes and points of objects k = 0 … K − 1, each in base_link of the keyframe that it was seen in.

    The dt column of the points tells the sweeps apart.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, index: FrameIndex, sweeps: int, workers: int = 1, interval: float | None = None) -> "PointDatabase":
        """Open the database beside an index; it is made on first use, whole or not at all.

        Where another process is making it, wait for that one.
        """
        apart = f"_{interval:g}_s_apart" if interval else ""
        folder = index.folder / f"objects_of_{sweeps}_sweeps{apart}"
        if not folder.is_dir():
            with locked(folder.with_name(f".{folder.name}.lock")):
                if not folder.is_dir():
                    _write(index, sweeps, interval, folder, workers)
        return cls(folder)

    def __len__(self) -> int:
        return len(self.labels)

    def points(self, k: int) -> np.ndarray:
        """Points float32 (n, 5) of object k, in the order of POINT_FIELDS."""
        return np.array(self.all_points[self.ends[k - 1] if k else 0 : self.ends[k]])

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of points of each object, int64 (K,)."""
        return np.diff(self.ends, prepend=0)

    @cached_property
    def boxes(self) -> np.ndarray:
        """Boxes float32 (K, 9), in the order of BOX_FIELDS."""
        return np.load(self.folder / "boxes.npy", mmap_mode="r")

    @cached_property
    def labels(self) -> np.ndarray:
        """Classes int64 (K,), indices into DETECTION_CLASSES."""
        return np.load(self.folder / "labels.npy", mmap_mode="r")

    @cached_property
    def ends(self) -> np.ndarray:
        """Ends int64 (K,) of each object's points in `all_points`."""
        return np.load(self.folder / "ends.npy", mmap_mode="r")

    @cached_property
    def all_points(self) -> np.ndarray:
        """Points float32 (N, 5) of all objects, in the order of POINT_FIELDS."""
        return np.memmap(self.folder / "points.bin", np.float32, "r").reshape(-1, len(POINT_FIELDS))

    def __getstate__(self) -> dict:
        # A worker process opens its own memory maps; the pages are shared by the system.
        return {"folder": self.folder}


def crops(points: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Indices of the points (N, ≥ 3) in each box (M, ≥ 7), ascending; both in the same frame.

    The same answer as `points_in_boxes`, for many points: those that are far along x are not looked at.
    """
    order = np.argsort(points[:, 0], kind="stable")
    x = points[order, 0]
    reach = np.hypot(boxes[:, 3], boxes[:, 4]) / 2 + 1e-3  # rounding of float32
    starts, ends = np.searchsorted(x, boxes[:, 0] - reach), np.searchsorted(x, boxes[:, 0] + reach, side="right")
    near = [np.sort(order[start:end]) for start, end in zip(starts, ends, strict=True)]
    return [chosen[points_in_boxes(points[chosen], box[None])[0]] for chosen, box in zip(near, boxes, strict=True)]


@dataclass(frozen=True)
class _CropJob:
    index: FrameIndex
    sweeps: int
    interval: float | None
    frames: range


def _write(index: FrameIndex, sweeps: int, interval: float | None, folder: Path, workers: int) -> None:
    """Write the database; the caller holds its lock, so that unfinished files are those of a killed process."""
    partial = folder.with_name(f"{folder.name}.partial")
    for stale in folder.parent.glob(f"{folder.name}.*partial"):
        shutil.rmtree(stale)
    partial.mkdir()
    try:
        boxes, labels, counts = [], [], []
        jobs = list(_jobs(index, sweeps, interval))
        with (partial / "points.bin").open("wb") as file:
            for objects in progress(in_parallel(_objects, jobs, workers), "objects to paste", len(jobs), "parts"):
                for row, label, points in objects:
                    boxes.append(row)
                    labels.append(label)
                    counts.append(len(points))
                    file.write(points.tobytes())
        if not labels:
            raise UserError(f"{index.folder}: no annotated object holds a LiDAR point; remove training.paste")
        np.save(partial / "boxes.npy", np.array(boxes, np.float32))
        np.save(partial / "labels.npy", np.array(labels, np.int64))
        np.save(partial / "ends.npy", np.cumsum(counts, dtype=np.int64))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _jobs(index: FrameIndex, sweeps: int, interval: float | None) -> Iterator[_CropJob]:
    for start in range(0, len(index), FRAMES_PER_JOB):
        yield _CropJob(index, sweeps, interval, range(start, min(start + FRAMES_PER_JOB, len(index))))


def _objects(job: _CropJob) -> list[tuple[np.ndarray, int, np.ndarray]]:
    """Box (9,), label and points (n, 5) of every object that holds a point, frame by frame."""
    objects = []
    for i in job.frames:
        record = job.index[i]
        points = record.load_points(job.sweeps, job.interval)
        boxes, labels = record.seen_boxes.values, record.seen_boxes.labels
        objects += [
            (row, label, points[chosen])
            for row, label, chosen in zip(boxes, labels, crops(points, boxes), strict=True)
            if len(chosen)
        ]
    return objects

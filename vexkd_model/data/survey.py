"""Take the inventory of a split that `vexkd prepare` has indexed."""

from collections import Counter
from collections.abc import Collection

import numpy as np

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.inventory import Inventory, PointSummary
from vexkd_model.data.map_masks import expansion_path
from vexkd_model.data.schema import SchemaTables, unused_categories
from vexkd_model.data.splits import LIDAR
from vexkd_model.data.sweeps import COLUMNS, HEAD_BYTES, INTENSITY, lidar_columns
from vexkd_model.types import CAMERAS, DETECTION_CLASSES

CLOUDS = 12  # that are read for the points' statistics


def take_inventory(nusc: SchemaTables, scenes: list[dict], index: FrameIndex, absent: Collection[str]) -> Inventory:
    """Take the inventory of a split's index; absent: sensors of which the dataset holds no file."""
    channels = {sensor["channel"] for sensor in nusc.sensor}
    read = [name for name in (LIDAR, *CAMERAS) if name in channels]
    classes = np.array([label for labels in index.column("labels") for label in labels], np.int64)
    stamps, names = np.array(index.column("stamp_ns")), np.array(index.column("scene"))
    steps = np.diff(stamps)[names[1:] == names[:-1]] * 1e-9
    cameras = Counter(name for frame in index.column("camera_name") for name in frame)
    towns = sorted(set(index.column("location")))
    paths = {town: expansion_path(index.dataroot, town) for town in towns}
    return Inventory(
        interval=round(float(np.median(steps)), 3) if len(steps) else None,
        sweeps=round(float(np.mean([len(sweeps) for sweeps in index.column("sweep_stamp_ns")])), 2),
        points=None if LIDAR in absent else _summarise(index),
        cameras={name: cameras[name] for name in CAMERAS if name in cameras},
        own_names={name: nusc.own_channels[name] for name in read if nusc.own_channels[name] != name},
        absent=tuple(name for name in read if name in absent),
        ignored=tuple(sorted(channels - set(read))),
        boxes=_by_class(classes),
        seen_boxes=_by_class(index.seen_objects()[1]),
        unused=unused_categories(nusc, scenes),
        maps={town: "" if path.is_file() else str(path) for town, path in paths.items()},
    )


def _by_class(labels: np.ndarray) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(DETECTION_CLASSES)).tolist()
    return dict(zip(DETECTION_CLASSES, counts, strict=True))


def _summarise(index: FrameIndex) -> PointSummary:
    """Read a few clouds from all over the split."""
    contents = [
        index[i].sweeps[0].path.read_bytes()
        for i in np.unique(np.linspace(0, len(index) - 1, CLOUDS).round().astype(int))
    ]
    columns = [lidar_columns(content[:HEAD_BYTES], len(content)) or COLUMNS[0] for content in contents]
    points = np.concatenate(
        [
            np.frombuffer(content, np.float32).reshape(-1, number)[:, :4]
            for content, number in zip(contents, columns, strict=True)
        ]
    )
    distances = np.linalg.norm(points[:, :3], axis=1)
    distances = distances[np.isfinite(distances)]
    unknown = np.isnan(points[:, INTENSITY])
    known = points[~unknown, INTENSITY]
    return PointSummary(
        min(columns),
        round(float(np.quantile(distances, 0.99)), 1) if len(distances) else 0.0,
        (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0),
        round(float(unknown.mean()), 3) if len(points) else 0.0,
    )

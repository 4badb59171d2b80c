"""Inventory of a prepared split: its sensors, points, boxes and maps, and what of the dataset is not used."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vexkd_model.data.splits import LIDAR, NAMES

FARTHEST_M, NEAREST_M = 500.0, 5.0  # a LiDAR whose range is beyond them is in other units


@dataclass(frozen=True)
class PointSummary:
    """Points of some clouds of a split.

    columns: 5 or 4 numbers a point in the files. range: distance [m] within which 99 % of the points are. intensity:
    least and greatest, NaN left out. unknown_intensity: share of points whose intensity is NaN.
    """

    columns: int
    range: float
    intensity: tuple[float, float]
    unknown_intensity: float


@dataclass(frozen=True)
class Inventory:
    """Content of a prepared split.

    interval: median time between keyframes [s]. sweeps: LiDAR sweeps a keyframe, up to ten. points: None without LiDAR
    files. cameras: frames in which each camera is. own_names: name in the dataset of each sensor that has another one
    there. absent: sensors that are read but have no file. ignored: sensors of the tables that are not read. boxes:
    annotations a class, and of these seen ones, which hold a LiDAR point. unused: annotations a category that is none
    of the classes. maps: towns whose map expansion is there, and the path where it is missing.
    """

    interval: float | None
    sweeps: float
    points: PointSummary | None
    cameras: dict[str, int]
    own_names: dict[str, str]
    absent: tuple[str, ...]
    ignored: tuple[str, ...]
    boxes: dict[str, int]
    seen_boxes: dict[str, int]
    unused: dict[str, int]
    maps: dict[str, str]

    @classmethod
    def of_manifest(cls, manifest: dict[str, Any]) -> "Inventory":
        """Read what `prepare` wrote into the manifest of an index."""
        return TypeAdapter(cls).validate_python(manifest["inventory"])


def inventory_text(found: Inventory, frames: int, tables: Path) -> str:
    """Format an inventory for people, a line a topic; tables: folder of the dataset's tables."""
    lines = [
        ("frames", f"{frames}" + (f", {found.interval:g} s apart" if found.interval else "")),
        ("LiDAR", _lidar_text(found)),
        ("cameras", _cameras_text(found, frames)),
    ]
    if found.absent:
        lines.append(("no files", f"{', '.join(found.absent)}: in the tables, but none of its files is there"))
    if found.ignored:
        lines.append(("ignored", f"{', '.join(found.ignored)}{_mapping_hint(found, tables)}"))
    lines.append(("boxes", _boxes_text(found)))
    if found.unused:
        counts = ", ".join(f"{name} {count}" for name, count in found.unused.items())
        example = json.dumps({"categories": {next(iter(found.unused)): "car"}})
        lines.append(("left out", f"{counts}: boxes of no class; {tables / NAMES} can give them one, {example}"))
    lines.append(("maps", _maps_text(found)))
    return "\n".join(f"  {title:9} {text}" for title, text in lines)


def _mapping_hint(found: Inventory, tables: Path) -> str:
    """Say how a sensor that is no radar can be read, under which name of nuScenes."""
    others = [name for name in found.ignored if not name.startswith("RADAR_")]
    example = json.dumps({"sensors": {others[0]: "CAM_FRONT"}}) if others else ""
    return f"; {tables / NAMES} can say which sensor of nuScenes one is, {example}" if others else ""


def _called(found: Inventory, name: str) -> str:
    return f"{name} ({found.own_names[name]} here)" if name in found.own_names else name


def _lidar_text(found: Inventory) -> str:
    points = found.points
    if points is None:
        return "none; poses and stamps alone, for camera students"
    fields = "x, y, z, intensity" + (", ring" if points.columns == 5 else "")
    text = (
        f"{_called(found, LIDAR)}, {found.sweeps:g} sweeps a frame; files of {points.columns} columns, {fields}; "
        f"99 % of the points within {points.range:g} m; "
        f"intensity {points.intensity[0]:g} … {points.intensity[1]:g}"
    )
    if not NEAREST_M <= points.range <= FARTHEST_M:
        text += "; ARE THESE METRES? Write x, y, z in metres"
    if points.unknown_intensity:
        text += f"; intensity of {points.unknown_intensity:.0%} of the points is NaN and counts as 0"
    elif points.intensity[1] <= 1:
        text += "; a student of nuScenes expects 0 … 255, train with --set lidar.intensity_max=1"
    return text


def _cameras_text(found: Inventory, frames: int) -> str:
    if not found.cameras:
        return "none"
    part = [
        f"{_called(found, name)} in {count} frames alone" for name, count in found.cameras.items() if count < frames
    ]
    whole = [_called(found, name) for name, count in found.cameras.items() if count == frames]
    return f"{sum(found.cameras.values()) / frames:.3g} a frame: {', '.join([*whole, *part])}"


def _boxes_text(found: Inventory) -> str:
    if not any(found.boxes.values()):
        return "none"
    some = [f"{name} {count} ({found.seen_boxes[name]})" for name, count in found.boxes.items() if count]
    none = [name for name, count in found.boxes.items() if not count]
    return f"a class, with points in brackets: {', '.join(some)}" + (f"; none of {', '.join(none)}" if none else "")


def _maps_text(found: Inventory) -> str:
    there = [town for town, path in found.maps.items() if not path]
    missing = [path for path in found.maps.values() if path]
    parts = ([f"of {', '.join(there)}"] if there else []) + [f"none, {path} would be it" for path in missing]
    return "; ".join(parts)

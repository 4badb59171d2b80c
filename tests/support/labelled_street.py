"""Objects that move beside the vehicle of `vehicle_bag`, and writers of the files that annotation tools make of them.

Coordinates are computed by matrices alone, as each tool's description has them; no code of the project makes a number.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from support import vehicle_bag as vehicle

CLOUDS = round(vehicle.SECONDS * 10)
LIDAR, CAMERA = "front_lidar", "cam_f"


class Thing(NamedTuple):
    """xyz: of the centre at the begin, in map [m]. size: length, width, height [m]. speed [m/s] along yaw."""

    name: str
    xyz: tuple[float, float, float]
    yaw: float
    size: tuple[float, float, float]
    speed: float


THINGS = {
    3: Thing("Car", (20.0, 6.0, 1.0), 0.4, (4.5, 1.8, 1.5), 6.0),
    7: Thing("Pedestrian", (12.0, -5.0, 1.1), -2.9, (0.6, 0.7, 1.8), -1.0),
    11: Thing("Truck", (30.0, -9.0, 1.7), np.pi, (14.0, 8.0, 3.0), 0.0),  # as large, there are posts in it
    12: Thing("Car", (-8.0, 3.0, 1.0), 1.6, (4.2, 1.9, 1.6), 3.0),
}
CLASSES = {"Car": "car", "Pedestrian": "pedestrian", "Truck": "truck"}


def stamp_ns(i: int) -> int:
    """Stamp of cloud i."""
    return vehicle.START_NS + round(i / 10 * 1e9)


def map_from_thing(thing: Thing, i: int) -> np.ndarray:
    along = np.array([np.cos(thing.yaw), np.sin(thing.yaw), 0])
    return vehicle.pose(tuple(thing.xyz + along * thing.speed * i / 10), thing.yaw)


def sensor_from_thing(frame: str, thing: Thing, i: int) -> np.ndarray:
    return np.linalg.inv(vehicle.map_from_base(i / 10) @ vehicle.base_from(frame)) @ map_from_thing(thing, i)


def kitti_columns(thing: Thing, i: int) -> str:
    """Columns from the type on: the bottom's middle is half a height below the centre, and y points down."""
    pose, (length, width, height) = sensor_from_thing(CAMERA, thing, i), thing.size
    x, y, z = pose[:3, 3] + [0, height / 2, 0]
    rotation_y = np.arctan2(-pose[2, 0], pose[0, 0])
    return f"{thing.name} 0 0 -10 0 0 50 50 {height} {width} {length} {x:.9f} {y:.9f} {z:.9f} {rotation_y:.9f}"


def write_kitti_tracking(file: Path, clouds: list[int], score: str = "") -> Path:
    """Frames are numbers of clouds."""
    rows = [f"{i} {track} {kitti_columns(thing, i)}{score}" for i in clouds for track, thing in THINGS.items()]
    rows.append(f"{clouds[-1]} -1 DontCare -1 -1 -10 0 0 9 9 -1 -1 -1 -1000 -1000 -1000 -10")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(rows) + "\n")
    return file


def write_kitti_objects(folder: Path, clouds: list[int]) -> Path:
    """A file a frame, called by the number of its cloud, without ids."""
    folder.mkdir(parents=True)
    for i in clouds:
        (folder / f"{i:06d}.txt").write_text("".join(kitti_columns(thing, i) + "\n" for thing in THINGS.values()))
    return folder


def euler(pose: np.ndarray) -> list[float]:
    """Angles about x, y and z of a pose that stands upright."""
    return [0.0, 0.0, float(np.arctan2(pose[1, 0], pose[0, 0]))]


def write_sustechpoints(folder: Path, names: dict[int, str]) -> Path:
    """names: of the file of each cloud."""
    folder.mkdir(parents=True)
    for i, name in names.items():
        objects = []
        for track, thing in THINGS.items():
            pose = sensor_from_thing(LIDAR, thing, i)
            vectors = {"position": pose[:3, 3], "scale": thing.size, "rotation": euler(pose)}
            psr = {key: dict(zip("xyz", map(float, vector), strict=True)) for key, vector in vectors.items()}
            objects.append({"psr": psr, "obj_type": thing.name, "obj_id": str(track), "annotator": "tester"})
        (folder / f"{name}.json").write_text(json.dumps(objects if i % 4 else {"frame": name, "objs": objects}))
    return folder


def write_datumaro(folder: Path, names: dict[int, str]) -> Path:
    """Write what CVAT exports: items in the order of clouds, labels by number, tracks that may be outside."""
    labels = sorted(CLASSES)
    items = []
    for number, (i, name) in enumerate(names.items()):
        cuboids = []
        for track, thing in THINGS.items():
            pose = sensor_from_thing(LIDAR, thing, i)
            cuboids.append(
                {
                    "id": track,
                    "type": "cuboid_3d",
                    "attributes": {"occluded": False, "track_id": track, "keyframe": number == 0},
                    "group": 0,
                    "label_id": labels.index(thing.name),
                    "position": pose[:3, 3].tolist(),
                    "rotation": euler(pose),
                    "scale": list(thing.size),
                }
            )
        gone = cuboids[0] | {"attributes": {"occluded": False, "track_id": 99, "keyframe": True, "outside": True}}
        tag = {"id": 0, "type": "label", "attributes": {}, "group": 0, "label_id": 0}
        items.append({"id": name, "annotations": [*cuboids, gone, tag], "attr": {"frame": number}})
    document = {
        "info": {},
        "categories": {"label": {"labels": [{"name": name, "parent": "", "attributes": []} for name in labels]}},
        "items": items,
    }
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "default.json").write_text(json.dumps(document))
    return folder

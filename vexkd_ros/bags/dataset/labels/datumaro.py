"""Label files of CVAT's 3D tasks: "Datumaro 3D", JSON, a file for all frames, boxes in the frame of the clouds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vexkd_model.config.reading import parse_section
from vexkd_model.errors import UserError
from vexkd_ros.bags.dataset.labels.json_objects import JsonObject, euler_pose, read_json
from vexkd_ros.bags.dataset.labels.labelled import FileFrame, LabelledBox

CUBOID = "cuboid_3d"
Triple = tuple[float, float, float]


class _Label(JsonObject):
    name: str


class _Labels(JsonObject):
    labels: list[_Label]


class _Categories(JsonObject):
    label: _Labels


class _Item(JsonObject):
    id: str
    annotations: list[dict[str, Any]]


class _Document(JsonObject):
    categories: _Categories
    items: list[_Item]


class _Attributes(JsonObject):
    track_id: str | int | None = None
    outside: bool = False


class _Cuboid(JsonObject):
    """Centre [m], three.js' Euler angles [rad], and extents [m] along the box's own axes, x forward."""

    label_id: int
    position: Triple
    rotation: Triple
    scale: Triple
    attributes: _Attributes = _Attributes()


def read_datumaro(files: Sequence[Path], frame: str) -> list[FileFrame]:
    """Read label files. frame: of TF, that of the clouds. UserError names the file and key that are wrong.

    What a track says of a frame that its object has left (`outside`) is no box.
    """
    frames = []
    for file in files:
        values = read_json(file)
        if not isinstance(values, dict):
            raise UserError(f"{file}: has no items; export the task as Datumaro 3D")
        document = parse_section(_Document, values, str(file), "items")
        names = [label.name for label in document.categories.label.labels]
        for i, item in enumerate(document.items):
            where = f"{file}: items[{i}] ({item.id})"
            frames.append(FileFrame(item.id.rpartition("/")[2], where, _boxes(item, where, names, frame)))
    return frames


def _boxes(item: _Item, where: str, names: Sequence[str], frame: str) -> list[LabelledBox]:
    boxes = []
    for i, values in enumerate(item.annotations):
        if values.get("type") != CUBOID:
            continue
        place = f"{where}: annotations[{i}]"
        cuboid = parse_section(_Cuboid, values, place, CUBOID)
        if not 0 <= cuboid.label_id < len(names):
            raise UserError(f"{place}: label_id {cuboid.label_id} is none of the {len(names)} labels; export it again")
        if cuboid.attributes.outside:
            continue
        track = cuboid.attributes.track_id
        pose = euler_pose(cuboid.position, cuboid.rotation)
        instance = "" if track is None else str(track)
        boxes.append(LabelledBox(place, names[cuboid.label_id], instance, frame, pose, cuboid.scale))
    return boxes

"""Label files of SUSTechPOINTS: JSON, a file a frame, boxes in the frame of the cloud."""

from collections.abc import Sequence
from pathlib import Path

from vexkd_model.config.reading import parse_section
from vexkd_model.errors import UserError
from vexkd_ros.bags.dataset.labels.json_objects import JsonObject, euler_pose, read_json
from vexkd_ros.bags.dataset.labels.labelled import FileFrame, LabelledBox


class _Vector(JsonObject):
    x: float
    y: float
    z: float

    def values(self) -> tuple[float, float, float]:
        return self.x, self.y, self.z


class _Placed(JsonObject):
    """Centre [m], extents [m] along the box's own axes, x forward, and Euler angles [rad]."""

    position: _Vector
    scale: _Vector
    rotation: _Vector


class _Object(JsonObject):
    obj_type: str
    psr: _Placed
    obj_id: str | int | None = None


def read_sustechpoints(files: Sequence[Path], frame: str) -> list[FileFrame]:
    """Read label files. frame: of TF, that of the clouds. UserError names the file and key that are wrong."""
    return [FileFrame(file.stem, str(file), _boxes(file, frame)) for file in files]


def _boxes(file: Path, frame: str) -> list[LabelledBox]:
    objects = read_json(file)
    if isinstance(objects, dict):
        objects = objects.get("objs")  # as some of its versions write them
    if not isinstance(objects, list):
        raise UserError(f"{file}: is no list of objects with obj_id, obj_type and psr; export it again")
    boxes = []
    for i, values in enumerate(objects):
        where = f"{file}: [{i}]"
        if not isinstance(values, dict):
            raise UserError(f"{where}: is no object with obj_id, obj_type and psr; export it again")
        one = parse_section(_Object, values, where, "object")
        pose = euler_pose(one.psr.position.values(), one.psr.rotation.values())
        instance = "" if one.obj_id is None else str(one.obj_id)
        boxes.append(LabelledBox(where, one.obj_type, instance, frame, pose, one.psr.scale.values()))
    return boxes

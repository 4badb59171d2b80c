"""KITTI's label files: tracking (label_02, a file a drive) and object detection (label_2, a file a frame).

A line is an object: [frame, track id,] type, truncated, occluded, alpha, 4 of a box in the image, height, width,
length, x, y, z, rotation_y[, score]. x, y, z [m] is the middle of the box's bottom, in the camera's rectified frame: x
right, y down, z forward. rotation_y [rad] turns about y, from x towards −z.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vexkd_model.errors import UserError
from vexkd_ros.bags.dataset.labels.labelled import FileFrame, LabelledBox

TRACKING, DETECTION = (17, 18), (15, 16)  # columns without and with a score
REGION = "DontCare"  # which nobody labelled: no object


def read_kitti(files: Sequence[Path], frame: str) -> list[FileFrame]:
    """Read label files; UserError names the line that cannot be read.

    frame: of TF, that of the camera. In a file for a drive, frames are those with a line, be it DontCare; of files for
    a frame each, an empty one is a frame without objects.
    """
    places: dict[str, str] = {}
    boxes: dict[str, list[LabelledBox]] = {}
    for file in files:
        lines = _lines(file)
        if not lines and len(files) > 1:
            places.setdefault(file.stem, str(file))
        for number, columns in lines:
            where = f"{file}:{number}"
            name, track, columns = _of_frame(columns, file.stem, where)
            places.setdefault(name, where)
            if columns[0] != REGION:
                boxes.setdefault(name, []).append(_box(where, columns, track, frame))
    return [FileFrame(name, where, boxes.get(name, [])) for name, where in places.items()]


def frame_from_box(height: float, x: float, y: float, z: float, rotation_y: float) -> np.ndarray:
    """Pose of a box, float64 (4, 4) camera_from_box, from its centre: x forward, y left, z up, as everywhere here."""
    cos, sin = math.cos(rotation_y), math.sin(rotation_y)
    return np.array([[cos, sin, 0, x], [0, 0, -1, y - height / 2], [-sin, cos, 0, z], [0, 0, 0, 1.0]])


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); export it again") from None
    return [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _of_frame(columns: list[str], stem: str, where: str) -> tuple[str, str, list[str]]:
    """Return frame, track id ('' without) and the columns that both forms share."""
    if len(columns) in DETECTION and not columns[0].isdigit():
        return stem, "", columns
    if len(columns) not in TRACKING:
        raise UserError(
            f"{where}: has {len(columns)} columns, not the 17 of KITTI's tracking labels (frame, track id, type, …, "
            "rotation_y) or the 15 of its object labels, each with or without a score; export it again"
        )
    if not columns[0].isdigit():
        raise UserError(f"{where}: {columns[0]!r} is no number of a frame; correct it")
    return columns[0], "" if columns[1].startswith("-") else columns[1], columns[2:]


def _box(where: str, columns: list[str], track: str, frame: str) -> LabelledBox:
    try:
        height, width, length, x, y, z, rotation_y = map(float, columns[8:15])
    except ValueError as error:
        raise UserError(f"{where}: {error}; correct it") from None
    pose = frame_from_box(height, x, y, z, rotation_y)
    return LabelledBox(where, columns[0], track, frame, pose, (length, width, height))

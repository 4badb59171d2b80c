"""Check the files of a dataset before a training reads them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vexkd_model.data.images import JPEG_END, check_whole
from vexkd_model.data.splits import LIDAR
from vexkd_model.data.sweeps import HEAD_BYTES, lidar_columns

SWEEP_COLUMNS = ("sweep_path", "sweep_stamp_ns", "base_from_sensor", "odom_from_base")
CAMERA_COLUMNS = (
    "camera_name",
    "camera_path",
    "camera_stamp_ns",
    "camera_size",
    "camera_intrinsics",
    "camera_base_from_sensor",
    "camera_odom_from_base",
)
BOX_COLUMNS = {"boxes": 9, "box_up": 3, "labels": 1, "attributes": 1, "lidar_points": 1, "radar_points": 1}  # width
TABLE_OF_COLUMN = {
    "base_from_sensor": "calibrated_sensor",
    "camera_base_from_sensor": "calibrated_sensor",
    "camera_intrinsics": "calibrated_sensor",
    "odom_from_base": "ego_pose",
    "camera_odom_from_base": "ego_pose",
}


@dataclass(frozen=True)
class Problem:
    """Damaged or missing file, with the reason in a few words."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def without_sensors(row: dict, absent: Collection[str]) -> dict:
    """Remove the sensors `absent`, of which a dataset holds no file, from a row of the frame index.

    Of the LiDAR the keyframe's own sweep stays, for its stamp and poses.
    """
    cameras = [i for i, name in enumerate(row["camera_name"]) if name not in absent]
    row = row | {name: [row[name][i] for i in cameras] for name in CAMERA_COLUMNS}
    return row | {name: row[name][:1] for name in SWEEP_COLUMNS} if LIDAR in absent else row


def check_row(row: dict, dataroot: Path, version: str, has_lidar: bool = True) -> tuple[dict | None, list[Problem]]:
    """Remove unreadable sensor files and invalid boxes from a row of the frame index; return it and the problems.

    An older sweep, a camera or a box is left out alone; without the keyframe's own sweep nothing remains (None).
    has_lidar: False for a dataset that holds no LiDAR file, only the poses.
    """
    tables = dataroot / version
    sweep_problems = [
        (_sweep_problem(dataroot / path) if has_lidar else None) or _calibration_problem(row, SWEEP_COLUMNS, i, tables)
        for i, path in enumerate(row["sweep_path"])
    ]
    camera_problems = [
        _image_problem(dataroot / path, size) or _calibration_problem(row, CAMERA_COLUMNS, i, tables)
        for i, (path, size) in enumerate(zip(row["camera_path"], row["camera_size"], strict=True))
    ]
    problems = [problem for problem in (*sweep_problems, *camera_problems) if problem]
    if sweep_problems[0]:
        return None, problems
    box_problems = _box_problems(row, tables)
    row = row | _without(row, SWEEP_COLUMNS, sweep_problems) | _without(row, CAMERA_COLUMNS, camera_problems)
    return row | _without_boxes(row, box_problems), problems + [problem for problem in box_problems if problem]


def _without(row: dict, columns: Sequence[str], problems: list[Problem | None]) -> dict[str, list]:
    """Columns of a row without the entries that have a problem."""
    return {
        name: [value for value, problem in zip(row[name], problems, strict=True) if not problem] for name in columns
    }


def _box_problems(row: dict, tables: Path) -> list[Problem | None]:
    """Problem of each annotated box, if any; an unknown (NaN) velocity is none."""
    boxes, up = np.reshape(row["boxes"], (-1, 9)), np.reshape(row["box_up"], (-1, 3))
    good = np.isfinite(boxes[:, :7]).all(axis=1) & np.isfinite(up).all(axis=1) & (boxes[:, 3:6] > 0).all(axis=1)
    return [
        None
        if fine
        else Problem(str(tables / "sample_annotation.json"), f"annotation {token} is not finite or has no volume")
        for token, fine in zip(row["annotation_token"], good, strict=True)
    ]


def _without_boxes(row: dict, problems: list[Problem | None]) -> dict[str, np.ndarray]:
    """Columns of the boxes, some of which are flat, without the boxes that have a problem."""
    good = np.array([problem is None for problem in problems], bool)
    return {name: np.reshape(row[name], (-1, width))[good].ravel() for name, width in BOX_COLUMNS.items()}


def _sweep_problem(path: Path) -> Problem | None:
    try:
        with path.open("rb") as file:
            head, size = file.read(HEAD_BYTES), file.seek(0, 2)
    except OSError as error:
        return Problem(str(path), _unreadable("LiDAR file", error))
    if not size or lidar_columns(head, size) is None:
        return Problem(str(path), f"truncated LiDAR file, {size} bytes are not whole points")
    return None


def _image_problem(path: Path, size: tuple[int, int]) -> Problem | None:
    """Check an image's header and end, not what lies between: a whole dataset is checked in minutes."""
    try:
        with Image.open(path) as image, path.open("rb") as file:
            actual = image.size
            file.seek(-len(JPEG_END), 2)
            if file.read() != JPEG_END:  # bytes after the end are no fault
                check_whole(np.fromfile(path, np.uint8))
    except UnidentifiedImageError:
        return Problem(str(path), "not an image")
    except ValueError:
        return Problem(str(path), "truncated image")
    except OSError as error:
        return Problem(str(path), _unreadable("image", error))
    if actual != tuple(size):
        return Problem(
            str(path), f"image of {actual[0]}×{actual[1]} px where sample_data.json says {size[0]}×{size[1]}"
        )
    return None


def _unreadable(what: str, error: OSError) -> str:
    return f"{what} is missing" if isinstance(error, FileNotFoundError) else f"{what} cannot be read ({error})"


def _calibration_problem(row: dict, columns: Sequence[str], i: int, tables: Path) -> Problem | None:
    for name in columns:
        if name not in TABLE_OF_COLUMN:
            continue
        path, what = tables / f"{TABLE_OF_COLUMN[name]}.json", name.removeprefix("camera_")
        if not np.isfinite(row[name][i]).all():
            return Problem(str(path), f"{what} of sample {row['token']} is not finite")
        if what == "intrinsics" and np.size(row[name][i]) != 9:
            return Problem(str(path), f"camera_intrinsic of sample {row['token']} is not a 3×3 matrix")
    return None

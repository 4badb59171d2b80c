"""Reader of sensor_msgs/PointCloud2, whatever the driver made of its fields."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vexkd_ros.inputs.errors import CloudError

NUMPY_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}  # PointField.INT8 … FLOAT64
FLOAT32 = 7
FOUR = np.dtype("c16")  # four float32 as one item: NumPy copies these faster than bytes without a type


@dataclass(frozen=True)
class Cloud:
    """Points of a PointCloud2.

    points: float32 (N, 4): x, y, z [m] in the sensor frame, intensity; every number is finite.
    removed: how many points were left out, because a coordinate is NaN or infinite or because all three are 0: drivers
        write rays without return either way.
    has_intensity: False where the message has no such field and column 3 is therefore zero.
    layout_warning: what was wrong with the layout of the data and could be mended, or ''.
    """

    points: np.ndarray
    removed: int
    has_intensity: bool
    layout_warning: str = ""


def read_cloud(message: Any, intensity_field: str = "intensity", intensity_scale: float = 1.0) -> Cloud:
    """Read x, y, z and intensity of any datatype, offset, padding and byte order; organised or not.

    Intensity that is not finite is 0. Raises CloudError where x, y or z is absent, a field reaches beyond the point, or
    the data are shorter than the message declares.
    """
    fields = _fields(message, "xyz")
    names = ["x", "y", "z", *([intensity_field] if intensity_field in fields else [])]
    height, width, row_step, warning = _layout(message)
    if not height:
        return Cloud(np.zeros((0, 4), np.float32), 0, len(names) == 4)
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 becomes inf and is removed below
        points = _numbers(message, [fields[name] for name in names], (height, width), row_step)
        if intensity_scale != 1:
            points[:, 3] *= intensity_scale
        returned = _returned(points)
    return Cloud(returned, len(points) - len(returned), len(names) == 4, warning)


def read_fields(message: Any, names: Sequence[str]) -> np.ndarray:
    """Read the named fields of all points, float32 (N, names), of any layout. Raises CloudError as `read_cloud`."""
    fields = _fields(message, names)
    height, width, row_step, _ = _layout(message)
    numbers = np.empty((height * width, len(names)), np.float32)
    for i, name in enumerate(names if height else ()):
        numbers[:, i] = _column(message, fields[name], (height, width), row_step)
    return numbers


def _fields(message: Any, needed: Sequence[str]) -> dict[str, Any]:
    fields = {field.name: field for field in reversed(message.fields)}  # the first of a name wins
    missing = [name for name in needed if name not in fields]
    if missing:
        raise CloudError(
            f"the cloud has no field {', '.join(missing)}; configure the driver",
            f"it has: {', '.join(fields) or 'none'}",
        )
    return fields


def _numbers(message: Any, fields: Sequence[Any], shape: tuple[int, int], row_step: int) -> np.ndarray:
    """Read float32 (N, 4) of three or four fields; what is missing is 0.

    x, y and z side by side in float32, as most drivers write them, are copied in one go with the number behind them.
    """
    columns = [_column(message, field, shape, row_step) for field in fields]
    offset, point_step = int(fields[0].offset), int(message.point_step)
    together = 0
    if _side_by_side(message, fields[:3]) and offset + FOUR.itemsize <= point_step:
        points = np.ndarray(shape, FOUR, message.data, offset, (row_step, point_step)).copy().view("f4").reshape(-1, 4)
        together = 4 if _side_by_side(message, fields) else 3
    else:
        points = np.empty((shape[0] * shape[1], 4), np.float32)
    for i in range(together, len(columns)):
        points[:, i] = columns[i]
    points[:, len(columns) :] = 0
    return points


def _side_by_side(message: Any, fields: Sequence[Any]) -> bool:
    """Return whether the fields lie in memory as a row of float32 does on this machine."""
    native = bool(message.is_bigendian) == (sys.byteorder == "big")
    return native and all(
        field.datatype == FLOAT32 and field.offset == fields[0].offset + 4 * i for i, field in enumerate(fields)
    )


def _returned(points: np.ndarray) -> np.ndarray:
    """Select the points that a ray returned from, and mend their intensity."""
    numbers = points.reshape(-1)
    # One product tells that all numbers are finite, unless their squares are not; then they are looked at one by one.
    if np.isfinite(np.dot(numbers, numbers)) and np.abs(points[:, 0]).min() > 0:
        return points
    x, y, z, intensity = points.T
    intensity[~np.isfinite(intensity)] = 0
    returned = np.isfinite(x) & np.isfinite(y) & np.isfinite(z) & ((x != 0) | (y != 0) | (z != 0))
    return points if returned.all() else points.compress(returned, axis=0)


def _layout(message: Any) -> tuple[int, int, int, str]:
    """Return height, width and row_step [bytes] that the data have room for, and what had to be mended, or ''.

    Everything is checked as Python integers, before NumPy may read outside the message.
    """
    height, width = int(message.height), int(message.width)
    row_step, row, size = int(message.row_step), int(message.width) * int(message.point_step), len(message.data)
    if height * width == 0:
        return 0, 0, 0, ""
    if height == 1 and size >= row:
        return height, width, row, ""
    if row_step >= row and size >= (height - 1) * row_step + row:
        return height, width, row_step, ""
    if size == height * row:  # row_step of the whole cloud, 0 or the width: drivers have written all of them
        return height, width, row, ("the cloud's row_step is wrong, its rows are read without padding; mend the driver")
    if height > 1 and row_step < row:
        raise CloudError(
            "the cloud's rows are longer than its row_step; mend the driver",
            f"row_step is {row_step} bytes, {width} points need {row}",
        )
    raise CloudError(
        "the cloud has less data than it declares; mend the driver",
        f"{height}×{width} points need {(height - 1) * row_step + row} bytes, the message has {size}",
    )


def _column(message: Any, field: Any, shape: tuple[int, int], row_step: int) -> np.ndarray:
    """Lay an array (height · width) of one field over the message's own bytes."""
    if field.datatype not in NUMPY_TYPES:
        raise CloudError(f"the cloud's field {field.name} has no known datatype; mend the driver", str(field.datatype))
    dtype = np.dtype((">" if message.is_bigendian else "<") + NUMPY_TYPES[field.datatype])
    point_step, end = int(message.point_step), int(field.offset) + dtype.itemsize
    if end > point_step:
        raise CloudError(
            "the cloud's fields reach beyond its point_step; mend the driver",
            f"point_step is {point_step} bytes, {field.name} ends at {end}",
        )
    column = np.ndarray(shape, dtype, message.data, offset=int(field.offset), strides=(row_step, point_step))
    return column.reshape(-1)

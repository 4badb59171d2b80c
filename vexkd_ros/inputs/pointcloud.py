"""Reader of sensor_msgs/PointCloud2, whatever the driver made of its fields."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vexkd_ros.inputs.errors import CloudError

NUMPY_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}  # PointField.INT8 … FLOAT64


@dataclass(frozen=True)
class Cloud:
    """Points of a PointCloud2.

    points: float32 (N, 4): x, y, z [m] in the sensor frame, intensity; every number is finite.
    removed: how many points were left out because a coordinate or the intensity is NaN or infinite.
    has_intensity: False where the message has no such field and column 3 is therefore zero.
    """

    points: np.ndarray
    removed: int
    has_intensity: bool


def read_cloud(message: Any) -> Cloud:
    """Read x, y, z and intensity of any datatype, offset, padding and byte order; organised or not.

    Raises CloudError when x, y or z is absent or the data is shorter than the message declares.
    """
    fields = {field.name: field for field in reversed(message.fields)}  # the first of a name wins
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise CloudError(f"the cloud has no field {', '.join(missing)}; configure the driver",
                         f"it has: {', '.join(fields) or 'none'}")
    has_intensity = "intensity" in fields
    names = ["x", "y", "z", "intensity"] if has_intensity else ["x", "y", "z"]
    view = _view(message, [fields[name] for name in names])
    points = np.zeros((view.size, 4), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 becomes inf and is removed below
        for column, name in enumerate(names):
            points[:, column] = view[name].reshape(-1)
    finite = np.isfinite(points).all(axis=1)
    removed = len(points) - int(np.count_nonzero(finite))
    return Cloud(points[finite] if removed else points, removed, has_intensity)


def _view(message: Any, fields: list) -> np.ndarray:
    """Lay a structured array (height, width) of just `fields` over the message's own bytes; nothing is copied."""
    height, width = int(message.height), int(message.width)
    dtype = np.dtype({
        "names": [field.name for field in fields],
        "formats": [_field_type(field, message.is_bigendian) for field in fields],
        "offsets": [int(field.offset) for field in fields],
    })  # fmt: skip
    if height * width == 0:
        return np.empty((0, 0), dtype)
    if dtype.itemsize > message.point_step:
        raise CloudError("the cloud's fields reach beyond its point_step; mend the driver",
                         f"point_step is {message.point_step} bytes, the fields need {dtype.itemsize}")
    if height > 1 and message.row_step < width * message.point_step:
        raise CloudError("the cloud's rows are longer than its row_step; mend the driver",
                         f"row_step is {message.row_step} bytes, {width} points need {width * message.point_step}")
    needed = (height - 1) * message.row_step + width * message.point_step
    if len(message.data) < needed:
        raise CloudError("the cloud has less data than it declares; mend the driver",
                         f"{height}×{width} points need {needed} bytes, the message has {len(message.data)}")
    return np.ndarray((height, width), dtype, message.data, strides=(message.row_step, message.point_step))


def _field_type(field: Any, big_endian: bool) -> str:
    if field.datatype not in NUMPY_TYPES:
        raise CloudError(f"the cloud's field {field.name} has no known datatype; mend the driver", str(field.datatype))
    return (">" if big_endian else "<") + NUMPY_TYPES[field.datatype]

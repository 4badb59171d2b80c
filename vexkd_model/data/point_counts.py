"""Count the LiDAR points in boxes whose annotation does not say how many there are."""

from pathlib import Path

import numpy as np

from vexkd_model.data.sweeps import read_lidar_file
from vexkd_model.geometry.boxes import points_in_boxes
from vexkd_model.geometry.transforms import apply


def with_point_counts(row: dict, dataroot: Path, has_lidar: bool) -> dict:
    """Count the points of the keyframe's sweep in the boxes of a row of the frame index that state a negative number.

    Without LiDAR files the row is returned as it is.
    """
    counts = np.array(row["lidar_points"], np.int64)
    unknown = np.flatnonzero(counts < 0)
    if not len(unknown) or not has_lidar:
        return row
    base_from_sensor = np.reshape(row["base_from_sensor"][0], (4, 4))
    points = apply(base_from_sensor, read_lidar_file(dataroot / row["sweep_path"][0])[:, :3])
    boxes = np.reshape(row["boxes"], (-1, 9))[unknown]
    counts[unknown] = points_in_boxes(points, boxes).sum(axis=1)
    return row | {"lidar_points": counts}

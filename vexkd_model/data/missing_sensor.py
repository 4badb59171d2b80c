"""Missing sensor: remove the LiDAR or the cameras from a frame."""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from vexkd_model.types import Frame

Sensor = Literal["lidar", "camera"]


def without_sensor(frame: Frame, sensor: Sensor) -> Frame:
    """Remove all points, or the images of all cameras, now and earlier, from a frame."""
    if sensor == "lidar":
        return replace(frame, points=frame.points[:0])
    return replace(frame, cameras=(), past=())


def with_dropout(frame: Frame, share: float, rng: np.random.Generator) -> Frame:
    """Drop LiDAR or camera, each equally often, with probability `share`."""
    dropped, sensor = rng.random() < share, rng.choice(get_args(Sensor))
    return without_sensor(frame, sensor) if dropped else frame

"""A frame of which one sensor saw nothing."""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from vexkd_model.types import Frame

Sensor = Literal["lidar", "camera"]


def without_sensor(frame: Frame, sensor: Sensor) -> Frame:
    """The same moment with no points, or with no image of any camera, now or earlier."""
    if sensor == "lidar":
        return replace(frame, points=frame.points[:0])
    return replace(frame, cameras=(), past=())


def with_dropout(frame: Frame, share: float, rng: np.random.Generator) -> Frame:
    """In this share of all calls without a sensor, either of the two as often."""
    dropped, sensor = rng.random() < share, rng.choice(get_args(Sensor))
    return without_sensor(frame, sensor) if dropped else frame

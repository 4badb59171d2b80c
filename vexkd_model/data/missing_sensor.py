"""Missing sensor: remove the LiDAR or the cameras from a frame, in training or in an evaluation."""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.errors import UserError
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


def check_droppable(config: ModelConfig, sensor: Sensor) -> None:
    """Raise UserError for a model that does not read the sensor, or reads nothing else."""
    if sensor not in config.sensors:
        raise UserError(
            f"--drop {sensor}: {config.name} does not read it, only {config.sensors[0]}; evaluate it without --drop"
        )
    if len(config.sensors) == 1:
        raise UserError(f"--drop {sensor}: {config.name} reads nothing else; give a model of two sensors")

"""The missing-sensor protocol: a model of two sensors, trained with both, is evaluated while one of them is silent."""

from vexkd_model.config import ModelConfig
from vexkd_model.data.missing_sensor import Sensor
from vexkd_model.errors import UserError


def check_droppable(config: ModelConfig, sensor: Sensor) -> None:
    """UserError for a model that does not read the sensor, or reads nothing else."""
    if sensor not in config.sensors:
        raise UserError(f"--drop {sensor}: {config.name} does not read it, only {config.sensors[0]}; "
                        "evaluate it without --drop")
    if len(config.sensors) == 1:
        raise UserError(f"--drop {sensor}: {config.name} reads nothing else; give a model of two sensors")

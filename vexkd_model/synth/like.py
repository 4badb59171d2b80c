"""Sensors to imitate, from what `--like` names: a description, or the card of a student package."""

from pathlib import Path

import numpy as np

from vexkd_model.config.sensors import NUSCENES, CameraSensor, LidarSensor, SensorsConfig, load_sensors
from vexkd_model.deploy.card import CARD, read_card
from vexkd_model.errors import UserError
from vexkd_model.sensor_check.statistics import CameraStatistics, InputStatistics, LidarStatistics


def sensors_like(path: Path) -> SensorsConfig:
    """Read a description, or derive one from a package's card; UserError for anything else."""
    if not (path / CARD).is_file():
        return load_sensors(path)
    inputs = read_card(path)[1].inputs
    if inputs is None:
        raise UserError(f"{path / CARD}: does not say what its sensors were like; give a sensor description")
    return sensors_of_card(inputs)


def sensors_of_card(inputs: InputStatistics) -> SensorsConfig:
    """Describe the sensors of a training, as far as a card knows them; the rest is as on nuScenes' vehicle.

    A card knows neither single elevations nor columns nor where on the roof a LiDAR stands. A package without cameras
    or without LiDAR has those of nuScenes' vehicle.
    """
    return SensorsConfig(
        lidar=_lidar(inputs.lidar) if inputs.lidar else NUSCENES.lidar,
        cameras={camera.name: _camera(camera) for camera in inputs.cameras} or NUSCENES.cameras,
    )


def _lidar(known: LidarStatistics) -> LidarSensor:
    x, y, _ = NUSCENES.lidar.translation
    values: dict[str, object] = {}
    if known.beams:
        values["beams"] = max(round(known.beams.median), 1)
    if known.elevation_low and known.elevation_high:
        values |= {"lowest": known.elevation_low.median, "highest": known.elevation_high.median}
    if known.height:
        values["translation"] = (x, y, known.height.median)
    if known.range_max:
        values["max_range"] = known.range_max.median
    if known.intensity_max and known.intensity_max.most > 0:
        values["intensity_max"] = next(
            (end for end in (1.0, 255.0) if known.intensity_max.most <= end), known.intensity_max.most
        )
    if known.interval:
        values["rate"] = round(1 / known.interval, 2)
    return LidarSensor.model_validate(values)


def _camera(known: CameraStatistics) -> CameraSensor:
    x, y, z = known.direction
    return CameraSensor(
        translation=known.position,
        yaw=float(np.degrees(np.arctan2(y, x))),
        pitch=float(np.degrees(np.arcsin(np.clip(-z, -1, 1)))),
        focal=known.focal.median * known.size[0],
        size=known.size,
    )

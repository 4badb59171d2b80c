"""Description of a vehicle's sensors, `config/sensors/*.yaml`, which `vexkd synth --like` imitates.

Whatever a file leaves out is as on nuScenes' vehicle. Angles in degrees, lengths in metres, mountings in base_link.
"""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, model_validator

from vexkd_model.config.reading import find_config, parse_section, read_mapping
from vexkd_model.config.section import Count, Positive, Section
from vexkd_model.types import CAMERAS

FOLDER, EXAMPLE, KIND = "config/sensors", "lidar64.yaml", "sensor description"
Elevation = Annotated[float, Field(ge=-85, le=85)]
Position = tuple[float, float, float]


class LidarSensor(Section):
    """Spinning LiDAR, upright; by default nuScenes' HDL-32E."""

    beams: Count = Field(default=32, description="equally spaced from `lowest` to `highest`")
    lowest: Elevation = -30.67
    highest: Elevation = 10.67
    elevations: Annotated[tuple[Elevation, ...], Field(min_length=1)] | None = Field(
        default=None, description="of every beam, ascending, instead of beams, lowest and highest"
    )
    columns: Annotated[int, Field(ge=16)] = Field(default=1084, description="rays of a beam in one turn")
    max_range: Annotated[float, Field(ge=5)] = 100.0
    translation: Position = (0.94, 0.0, 1.84)
    yaw: float = Field(default=-90.0, description="of the sensor's x axis; nuScenes' points to the right")
    rate: Annotated[float, Field(ge=2, le=100)] = Field(
        default=20.0, description="turns a second; keyframes come at 2 Hz"
    )
    intensity_max: Positive = Field(default=255.0, description="greatest intensity: 255, 1, …")

    @model_validator(mode="after")
    def _elevations_are_said_once(self) -> "LidarSensor":
        if self.elevations is not None:
            if doubled := {"beams", "lowest", "highest"} & self.model_fields_set:
                raise ValueError(f"elevations say {', '.join(sorted(doubled))}, too; keep one of both")
            if any(above <= below for below, above in zip(self.elevations, self.elevations[1:], strict=False)):
                raise ValueError("elevations must ascend, each one once")
        elif self.highest <= self.lowest:
            raise ValueError("highest must be above lowest")
        return self


class CameraSensor(Section):
    """Pinhole camera without roll."""

    translation: Position
    yaw: float = Field(description="of its view, to the left of straight ahead")
    pitch: Annotated[float, Field(ge=-85, le=85)] = Field(default=0.0, description="of its view, downwards")
    focal: Positive = Field(description="[px] in an image of `size`")
    size: tuple[Count, Count] = Field(default=(1600, 900), description="width and height [px]")
    centre: tuple[float, float] | None = Field(
        default=None, description="principal point [px]; null: the middle of the image"
    )
    trigger_ms: float | None = Field(
        default=None, description="when it fires, after the LiDAR's stamp; null: when the LiDAR sweeps across its view"
    )


def _nuscenes_cameras() -> dict[str, CameraSensor]:
    mounted = {
        "CAM_FRONT": ((1.70, 0.0, 1.51), 0, 1260.0, -35),
        "CAM_FRONT_RIGHT": ((1.55, -0.49, 1.50), -55, 1260.0, -27),
        "CAM_BACK_RIGHT": ((1.01, -0.48, 1.56), -110, 1260.0, -20),
        "CAM_BACK": ((0.03, 0.0, 1.58), 180, 810.0, -10),
        "CAM_BACK_LEFT": ((1.03, 0.48, 1.59), 110, 1260.0, -1),
        "CAM_FRONT_LEFT": ((1.52, 0.49, 1.51), 55, 1260.0, -39),
    }
    return {
        name: CameraSensor(translation=place, yaw=yaw, focal=focal, trigger_ms=trigger)
        for name, (place, yaw, focal, trigger) in mounted.items()
    }


class SensorsConfig(Section):
    """Sensors of a vehicle; cameras by nuScenes' names, {} for none."""

    lidar: LidarSensor = LidarSensor()
    cameras: dict[str, CameraSensor] = Field(default_factory=_nuscenes_cameras)

    @model_validator(mode="after")
    def _cameras_have_known_names(self) -> "SensorsConfig":
        if unknown := [name for name in self.cameras if name not in CAMERAS]:
            raise ValueError(f"cameras: {unknown[0]} is none of {', '.join(CAMERAS)}")
        return self


NUSCENES = SensorsConfig()


def load_sensors(path: Path) -> SensorsConfig:
    """Read a description; the UserError names the file and key that are wrong."""
    found = find_config(path, FOLDER)
    return parse_section(SensorsConfig, read_mapping(found, KIND, FOLDER, EXAMPLE), str(found), KIND)


def dump_sensors(sensors: SensorsConfig) -> str:
    """Write the YAML that `load_sensors` reads back to an equal description; what is null is left out."""
    return yaml.safe_dump(
        sensors.model_dump(mode="json", exclude_none=True, exclude_unset=True), sort_keys=False, default_flow_style=None
    )

"""Sensor rig of one vehicle: mounting, calibration and firing times, drawn around a description of its sensors."""

from dataclasses import dataclass

import numpy as np

from vexkd_model.config.sensors import NUSCENES, CameraSensor, LidarSensor, SensorsConfig
from vexkd_model.geometry.transforms import rotation_from_angles

# Standard deviations of what distinguishes one vehicle's rig from another's; drawn within two of them.
SHIFT_M, TURN, TILT = 0.02, np.deg2rad(0.5), np.deg2rad(0.25)
FOCAL_SHARE, CENTRE_SHARE = 0.01, 1 / 160  # of the focal length, of the image's width
TRIGGER_JITTER_US = 1000  # a camera fires this much before or after its turn, at most
TURN_ENDS_AT = np.deg2rad(110.0)  # the azimuth at which a revolution begins and, turning clockwise, ends


@dataclass(frozen=True)
class RigCamera:
    """Pinhole camera on the vehicle.

    base_from_camera: float64 (4, 4), camera axes x right, y down, z along the view. focal [px], centre (x, y) [px]:
    for an image of `size`, (width, height) [px]. trigger_us: when it fires, after the LiDAR's stamp: a camera takes its
    picture while the LiDAR sweeps across its view, and the LiDAR's stamp is the end of its turn.
    """

    channel: str
    base_from_camera: np.ndarray
    focal: float
    centre: tuple[float, float]
    trigger_us: int
    size: tuple[int, int]

    def intrinsics(self, width: int, height: int) -> np.ndarray:
        """Intrinsics float64 (3, 3) for an image of this size."""
        x, y = width / self.size[0], height / self.size[1]
        return np.array([[self.focal * x, 0, self.centre[0] * x], [0, self.focal * y, self.centre[1] * y], [0, 0, 1.0]])

    def height(self, width: int) -> int:
        """Height [px] of an image of this width, with square pixels."""
        return max(round(width * self.size[1] / self.size[0]), 1)


@dataclass(frozen=True)
class RigLidar:
    """Spinning LiDAR on the vehicle.

    base_from_lidar: float64 (4, 4), axes of its points. ahead: azimuth in those axes of the vehicle's heading, to which
    column 0 looks [rad]. elevation: float64 (beams,), ascending [rad]; ring 0 looks down most. columns: rays of a beam
    in one turn. interval_us: time of a turn.
    """

    base_from_lidar: np.ndarray
    ahead: float
    elevation: np.ndarray
    columns: int
    max_range: float
    interval_us: int
    intensity_max: float

    @property
    def grid(self) -> tuple[int, int]:
        """Beams and columns."""
        return len(self.elevation), self.columns

    @property
    def azimuth(self) -> np.ndarray:
        """Azimuths float64 (columns,), counter-clockwise from the vehicle's heading [rad]."""
        return np.arange(self.columns) * (2 * np.pi / self.columns)


@dataclass(frozen=True)
class Rig:
    """Sensors of one vehicle."""

    lidar: RigLidar
    cameras: tuple[RigCamera, ...]

    @property
    def base_from_lidar(self) -> np.ndarray:
        """Pose float64 (4, 4) of the LiDAR's axes."""
        return self.lidar.base_from_lidar


_AHEAD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # base_from_camera of one that looks ahead


def draw_rig(rng: np.random.Generator, spread: float = 1.0, sensors: SensorsConfig = NUSCENES) -> Rig:
    """Draw one vehicle's calibration. spread: 0 gives the rig as described."""

    def draw(deviation: float, count: int) -> np.ndarray:
        return deviation * spread * np.clip(rng.normal(size=count), -2, 2)

    cameras = []
    for channel, camera in sensors.cameras.items():
        pose = np.eye(4)
        roll, pitch = draw(TURN, 2)
        pose[:3, :3] = (
            rotation_from_angles(roll, np.deg2rad(camera.pitch) + pitch, np.deg2rad(camera.yaw) + draw(TURN, 1)[0])
            @ _AHEAD
        )
        pose[:3, 3] = camera.translation + draw(SHIFT_M, 3)
        x, y = (np.array(camera.size) / 2 if camera.centre is None else camera.centre) + draw(
            CENTRE_SHARE * camera.size[0], 2
        )
        focal = float(camera.focal * (1 + draw(FOCAL_SHARE, 1)[0]))
        trigger = _trigger_us(camera, sensors.lidar)
        cameras.append(RigCamera(channel, pose, focal, (float(x), float(y)), trigger, camera.size))
    pose = np.eye(4)
    roll, pitch = draw(TILT, 2)
    # Rounded, so that right angles are exact.
    pose[:3, :3] = rotation_from_angles(roll, pitch, draw(TURN, 1)[0]) @ rotation_from_angles(
        0, 0, np.deg2rad(sensors.lidar.yaw)
    ).round(12)
    pose[:3, 3] = sensors.lidar.translation + draw(SHIFT_M, 3)
    return Rig(_lidar(sensors.lidar, pose), tuple(cameras))


def _lidar(sensor: LidarSensor, pose: np.ndarray) -> RigLidar:
    elevations = np.linspace(sensor.lowest, sensor.highest, sensor.beams)
    return RigLidar(
        pose,
        float(np.deg2rad(-sensor.yaw)),
        np.deg2rad(elevations if sensor.elevations is None else sensor.elevations),
        sensor.columns,
        sensor.max_range,
        sweep_interval_us(sensor),
        sensor.intensity_max,
    )


def sweep_interval_us(sensor: LidarSensor) -> int:
    """Time of a turn [µs]."""
    return round(1e6 / sensor.rate)


def _trigger_us(camera: CameraSensor, lidar: LidarSensor) -> int:
    if camera.trigger_ms is not None:
        return round(camera.trigger_ms * 1000)
    since = np.remainder(TURN_ENDS_AT - np.deg2rad(camera.yaw), 2 * np.pi) / (2 * np.pi)  # the turn's begin
    return -round((1 - since) % 1 * sweep_interval_us(lidar))


def camera_stamp_us(camera: RigCamera, lidar_stamp_us: int, rng: np.random.Generator) -> int:
    """Stamp of a camera's image of a LiDAR keyframe [µs]: about the camera's trigger away from it."""
    return lidar_stamp_us + camera.trigger_us + int(rng.integers(-TRIGGER_JITTER_US, TRIGGER_JITTER_US + 1))

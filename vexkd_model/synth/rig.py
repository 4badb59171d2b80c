"""Sensor rig of the vehicle, after nuScenes': mounting, calibration and firing times."""

from dataclasses import dataclass

import numpy as np

FULL_WIDTH, FULL_HEIGHT = 1600, 900  # focal lengths and principal points are for images of this size [px]
LIDAR_TRANSLATION = (0.94, 0.0, 1.84)  # [m] in base_link
# Standard deviations of what distinguishes one vehicle's rig from another's; drawn within two of them.
SHIFT_M, TURN, TILT = 0.02, np.deg2rad(0.5), np.deg2rad(0.25)
FOCAL_SHARE, CENTRE_PX = 0.01, 10.0
TRIGGER_JITTER_US = 1000  # a camera fires this much before or after its turn, at most


@dataclass(frozen=True)
class RigCamera:
    """Pinhole camera on the vehicle.

    base_from_camera: float64 (4, 4), camera axes x right, y down, z along the view. focal [px], centre (x, y) [px]:
    for an image of FULL_WIDTH × FULL_HEIGHT. trigger_us: when it fires, after the LiDAR's stamp: a camera takes its
    picture while the LiDAR sweeps across its view, and the LiDAR's stamp is the end of its turn.
    """

    channel: str
    base_from_camera: np.ndarray
    focal: float
    centre: tuple[float, float]
    trigger_us: int

    def intrinsics(self, width: int, height: int) -> np.ndarray:
        """Intrinsics float64 (3, 3) for an image of this size."""
        x, y = width / FULL_WIDTH, height / FULL_HEIGHT
        return np.array([[self.focal * x, 0, self.centre[0] * x], [0, self.focal * y, self.centre[1] * y], [0, 0, 1.0]])


@dataclass(frozen=True)
class Rig:
    """Sensors of one vehicle. base_from_lidar: float64 (4, 4), LiDAR axes x right, y forward, z up."""

    base_from_lidar: np.ndarray
    cameras: tuple[RigCamera, ...]


_AHEAD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # base_from_camera of one that looks ahead
_LIDAR = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
# channel, translation in base_link [m], yaw of the view [°], focal length [px], trigger [ms]
_CAMERAS = (
    ("CAM_FRONT", (1.70, 0.0, 1.51), 0, 1260.0, -35),
    ("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), -55, 1260.0, -27),
    ("CAM_BACK_RIGHT", (1.01, -0.48, 1.56), -110, 1260.0, -20),
    ("CAM_BACK", (0.03, 0.0, 1.58), 180, 810.0, -10),
    ("CAM_BACK_LEFT", (1.03, 0.48, 1.59), 110, 1260.0, -1),
    ("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), 55, 1260.0, -39),
)
CHANNELS = tuple(camera[0] for camera in _CAMERAS)


def draw_rig(rng: np.random.Generator, spread: float = 1.0) -> Rig:
    """Draw one vehicle's calibration. spread: 0 gives the rig as designed."""

    def draw(deviation: float, count: int) -> np.ndarray:
        return deviation * spread * np.clip(rng.normal(size=count), -2, 2)

    cameras = []
    for channel, translation, yaw, focal, trigger_ms in _CAMERAS:
        pose = np.eye(4)
        roll, pitch = draw(TURN, 2)
        pose[:3, :3] = _rotation(roll, pitch, np.deg2rad(yaw) + draw(TURN, 1)[0]) @ _AHEAD
        pose[:3, 3] = translation + draw(SHIFT_M, 3)
        centre = np.array([FULL_WIDTH, FULL_HEIGHT]) / 2 + draw(CENTRE_PX, 2)
        cameras.append(
            RigCamera(
                channel,
                pose,
                float(focal * (1 + draw(FOCAL_SHARE, 1)[0])),
                (float(centre[0]), float(centre[1])),
                trigger_ms * 1000,
            )
        )
    lidar = np.eye(4)
    roll, pitch = draw(TILT, 2)
    lidar[:3, :3] = _rotation(roll, pitch, draw(TURN, 1)[0]) @ _LIDAR
    lidar[:3, 3] = LIDAR_TRANSLATION + draw(SHIFT_M, 3)
    return Rig(lidar, tuple(cameras))


def _rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Rotation (3, 3): roll about x first, then pitch about y, then yaw about z [rad]."""
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    return (
        np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    )


def camera_stamp_us(camera: RigCamera, lidar_stamp_us: int, rng: np.random.Generator) -> int:
    """Stamp of a camera's image of a LiDAR keyframe [µs]: never after it, at most 40 ms before."""
    return lidar_stamp_us + camera.trigger_us + int(rng.integers(-TRIGGER_JITTER_US, TRIGGER_JITTER_US + 1))

"""The world of the tiny nuScenes dataset: a straight street, what stands and moves on it, and how it is driven along.

The ego vehicle starts at ORIGIN with heading HEADING; every other number is given in the frame of that first pose, "the
street": x along it, y to its left. Small enough to compute every answer by hand; no code of the project is used here.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from support.rig import CAMERAS, FOCAL, IMAGE_SIZE, LIDAR_XYZ, LIDAR_YAW, mounting

ORIGIN, HEADING, EGO_SPEED = np.array([600.0, 1600.0]), 0.6, 5.0
LOCATION = "singapore-onenorth"
KEYFRAME_S = 0.5
SQUARE, GREY = 9, 90  # in images: edge of the white squares [px], background


@dataclass(frozen=True)
class Thing:
    """An object on the street: pose [m, rad] at the scene's start, size [m], speed along its heading [m/s].

    keyframes: in which it is annotated, all when empty. points: LiDAR points in it, a sweep.
    """

    category: str
    attribute: str
    x: float
    y: float
    size: tuple[float, float, float]
    yaw: float = 0.0
    speed: float = 0.0
    keyframes: tuple[int, ...] = ()
    points: int = 60

    def centre(self, seconds: float) -> np.ndarray:
        """(3,) on the street [m]."""
        return np.array(
            [
                self.x + np.cos(self.yaw) * self.speed * seconds,
                self.y + np.sin(self.yaw) * self.speed * seconds,
                self.size[2] / 2,
            ]
        )


@dataclass(frozen=True)
class Drive:
    """Motion of the ego vehicle: speed [m/s], turn to the left [rad/s], pitch down [rad]; time a keyframe [s]."""

    speed: float = EGO_SPEED
    turn: float = 0.0
    pitch: float = 0.0
    keyframe_s: float = KEYFRAME_S

    def street_from_base(self, seconds: float) -> np.ndarray:
        """(4, 4) at a time since the scene's start."""
        yaw, matrix = self.turn * seconds, np.eye(4)
        ahead, left = (np.sin(yaw) / self.turn, (1 - np.cos(yaw)) / self.turn) if self.turn else (seconds, 0.0)
        matrix[:2, 3] = self.speed * ahead, self.speed * left
        matrix[:3, :3] = Rotation.from_euler("ZY", [yaw, self.pitch]).as_matrix()
        return matrix


STRAIGHT = Drive()
CAR, PERSON = (4.4, 1.9, 1.6), (0.7, 0.7, 1.75)
THINGS = (
    Thing("vehicle.car", "vehicle.parked", 12.0, 4.0, CAR, yaw=np.pi),
    Thing("vehicle.car", "vehicle.moving", 20.0, -3.5, CAR, speed=6.0),
    Thing("vehicle.car", "vehicle.parked", 30.0, 40.0, CAR, points=0),  # nothing sees it
    Thing("vehicle.truck", "vehicle.parked", 27.0, 6.0, (7.0, 2.5, 3.0), yaw=0.1),
    Thing("vehicle.bus.rigid", "vehicle.stopped", -16.0, -5.0, (11.0, 2.9, 3.4), keyframes=(1,)),
    Thing("movable_object.barrier", "", 7.0, 9.0, (0.5, 2.4, 1.0), yaw=0.3),
    Thing("vehicle.motorcycle", "cycle.with_rider", -12.0, 3.0, (2.1, 0.8, 1.5), yaw=0.2, speed=7.0),
    Thing("vehicle.bicycle", "cycle.with_rider", -8.0, 6.0, (1.7, 0.6, 1.3), yaw=3.0, speed=3.0),
    Thing("human.pedestrian.adult", "pedestrian.moving", 8.0, -7.0, PERSON, yaw=1.2, speed=1.2),
    Thing("movable_object.trafficcone", "", 5.0, -5.0, (0.4, 0.4, 1.0)),
    Thing("animal", "", 15.0, -9.0, (0.8, 0.4, 0.5)),  # none of the ten classes
)
FEW_THINGS = tuple(THINGS[i] for i in (1, 5, 8, 10))  # a car and a person that move, a barrier, an animal
# layer → polygons (or lines) on the street [m]
WALKWAYS = ([(-80, 8), (120, 8), (120, 11), (-80, 11)], [(-80, -12), (120, -12), (120, -9), (-80, -9)])
POLYGONS = {
    "drivable_area": ([(-80, -8), (120, -8), (120, 8), (-80, 8)],),
    "walkway": WALKWAYS,
    "ped_crossing": ([(16, -8), (20, -8), (20, 8), (16, 8)],),
    "stop_line": ([(14, -8), (15.5, -8), (15.5, 0), (14, 0)],),
    "carpark_area": ([(-30, 12), (-5, 12), (-5, 26), (-30, 26)],),
}
HOLES = {"carpark_area": ([(-20, 17), (-20, 21), (-14, 21), (-14, 17)],)}
LINES = {"road_divider": ([(-80, 0), (120, 0)],), "lane_divider": ([(-80, -4), (13, -4), (13, -3), (120, -4)],)}


def rotation(yaw: float) -> np.ndarray:
    return Rotation.from_euler("Z", yaw).as_matrix()


def quaternion(matrix: np.ndarray) -> list[float]:
    """w, x, y, z of the rotation (3, 3)."""
    x, y, z, w = Rotation.from_matrix(matrix).as_quat().tolist()
    return [w, x, y, z]


def to_global(street: np.ndarray) -> np.ndarray:
    """(..., 2 or 3) on the street → global."""
    street = np.asarray(street, dtype=float)
    turned = street[..., :2] @ rotation(HEADING)[:2, :2].T + ORIGIN
    return np.concatenate([turned, street[..., 2:]], axis=-1)


def ego_pose(seconds: float, drive: Drive = STRAIGHT) -> dict[str, list[float]]:
    """Translation and rotation of base_link in global coordinates, as the table ego_pose holds them."""
    street_from_base = drive.street_from_base(seconds)
    return {
        "translation": to_global(street_from_base[:3, 3]).tolist(),
        "rotation": quaternion(rotation(HEADING) @ street_from_base[:3, :3]),
    }


def boxes_in_base(keyframe: int) -> list[tuple[Thing, list[float]]]:
    """Annotations of a keyframe: centre, length, width, height, yaw, vx, vy in base_link, velocities exact."""
    seconds = keyframe * KEYFRAME_S
    found = []
    for thing in THINGS:
        if thing.keyframes and keyframe not in thing.keyframes:
            continue
        x, y, z = thing.centre(seconds)
        found.append(
            (
                thing,
                [
                    x - EGO_SPEED * seconds,
                    y,
                    z,
                    *thing.size,
                    thing.yaw,
                    thing.speed * np.cos(thing.yaw),
                    thing.speed * np.sin(thing.yaw),
                ],
            )
        )
    return found


def base_from_camera(camera: str, keyframe: int) -> np.ndarray:
    """(4, 4) from the camera at its own stamp to base_link at the keyframe's: its mounting, and how far it drove."""
    place, yaw, delay = CAMERAS[camera]
    matrix = mounting(yaw, at=place)
    matrix[0, 3] += EGO_SPEED * delay
    return matrix


def pixels_of(camera: str, keyframe: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) u, v [px] and depths (N,) [m] in the stored image of points (N, 3) in base_link at the keyframe."""
    placed = base_from_camera(camera, keyframe)
    x, y, z = ((np.asarray(points) - placed[:3, 3]) @ placed[:3, :3]).T
    return np.column_stack([FOCAL * x / z + IMAGE_SIZE[0] / 2, FOCAL * y / z + IMAGE_SIZE[1] / 2]), z


def sweep_points(seconds: float, things: list[Thing], rng: np.random.Generator, drive: Drive = STRAIGHT) -> np.ndarray:
    """float32 (N, 5) in the sensor's frame: points inside the things, on the ground and on the ego's own roof."""
    street_from_base = drive.street_from_base(seconds)
    ground = rng.uniform(-45, 45, (1500, 2)) + street_from_base[:2, 3]
    parts = [np.column_stack([ground, np.zeros(1500)])]
    for thing in things:
        inside = rng.uniform(-0.47, 0.47, (thing.points, 3)) * thing.size
        parts.append(inside @ rotation(thing.yaw).T + thing.centre(seconds))
    in_base = (np.concatenate(parts) - street_from_base[:3, 3]) @ street_from_base[:3, :3]
    in_sensor = (in_base - LIDAR_XYZ) @ rotation(LIDAR_YAW)
    in_sensor = np.concatenate([in_sensor, rng.uniform(-0.9, 0.9, (20, 3))])
    intensity = rng.integers(0, 256, (len(in_sensor), 1))
    ring = np.arange(len(in_sensor)) % 32
    return np.column_stack([in_sensor, intensity, ring]).astype(np.float32)


def picture(camera: str, keyframe: int) -> np.ndarray:
    """uint8 (H, W, 3): a white square around each visible thing's centre on grey, on the straight drive."""
    image = np.full((IMAGE_SIZE[1], IMAGE_SIZE[0], 3), GREY, np.uint8)
    rows = np.array([row[:3] for _, row in boxes_in_base(keyframe)])
    centres, depths = pixels_of(camera, keyframe, rows)
    for u, v in centres[depths > 1]:
        column, row = int(np.floor(u)), int(np.floor(v))
        half = SQUARE // 2
        image[max(row - half, 0) : max(row + half + 1, 0), max(column - half, 0) : max(column + half + 1, 0)] = 255
    return image

"""A hand-made dataset in the nuScenes schema, small enough to compute every answer by hand.

One scene of each mini split on a straight street. The ego vehicle starts at ORIGIN with heading HEADING and drives
straight on; every other number is given in the frame of that first pose, "the street": x along it, y to its left. No
code of the project is used here.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

ORIGIN, HEADING, EGO_SPEED = np.array([600.0, 1600.0]), 0.6, 5.0
LOCATION = "singapore-onenorth"
KEYFRAME_S, SWEEP_S = 0.5, 0.05
# Cameras: place in base_link [m], direction of view [rad], delay behind the keyframe's LiDAR stamp [s].
CAMERAS = {
    "CAM_FRONT": ((1.7, 0.0, 1.5), 0.0, -0.035), "CAM_FRONT_RIGHT": ((1.5, -0.5, 1.5), -0.96, -0.028),
    "CAM_BACK_RIGHT": ((1.0, -0.5, 1.6), -1.92, -0.02), "CAM_BACK": ((0.0, 0.0, 1.6), np.pi, -0.01),
    "CAM_BACK_LEFT": ((1.0, 0.5, 1.6), 1.92, 0.0), "CAM_FRONT_LEFT": ((1.5, 0.5, 1.5), 0.96, -0.043),
}  # fmt: skip
IMAGE_SIZE, FOCAL, SQUARE = (320, 180), 250.0, 9  # width and height [px]; edge of the white squares [px]
SENSOR_XYZ, SENSOR_YAW = np.array([0.9, 0.1, 1.8]), -np.pi / 2
SCENES = {"scene-0061": 3, "scene-0103": 2}  # name → keyframes; the first is mini_train's, the second mini_val's
START_US = 1_500_000_000_000_000


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
        return np.array([self.x + np.cos(self.yaw) * self.speed * seconds,
                         self.y + np.sin(self.yaw) * self.speed * seconds, self.size[2] / 2])  # fmt: skip


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
    return np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])


def quaternion(yaw: float) -> list[float]:
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


def to_global(street: np.ndarray) -> np.ndarray:
    """(..., 2 or 3) on the street → global."""
    street = np.asarray(street, dtype=float)
    turned = street[..., :2] @ rotation(HEADING)[:2, :2].T + ORIGIN
    return np.concatenate([turned, street[..., 2:]], axis=-1)


def boxes_in_base(keyframe: int) -> list[tuple[Thing, list[float]]]:
    """What is annotated in a keyframe: centre, length, width, height, yaw, vx, vy in base_link, velocities exact."""
    seconds = keyframe * KEYFRAME_S
    found = []
    for thing in THINGS:
        if thing.keyframes and keyframe not in thing.keyframes:
            continue
        x, y, z = thing.centre(seconds)
        found.append((thing, [x - EGO_SPEED * seconds, y, z, *thing.size, thing.yaw,
                              thing.speed * np.cos(thing.yaw), thing.speed * np.sin(thing.yaw)]))
    return found


def base_from_camera(camera: str, keyframe: int) -> np.ndarray:
    """(4, 4) from the camera at its own stamp to base_link at the keyframe's: its mounting, and how far it drove."""
    place, yaw, delay = CAMERAS[camera]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(yaw) @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    matrix[:3, 3] = place
    matrix[0, 3] += EGO_SPEED * delay
    return matrix


def pixels_of(camera: str, keyframe: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) u, v [px] and depths (N,) [m] in the stored image of points (N, 3) in base_link at the keyframe."""
    placed = base_from_camera(camera, keyframe)
    x, y, z = ((np.asarray(points) - placed[:3, 3]) @ placed[:3, :3]).T
    return np.column_stack([FOCAL * x / z + IMAGE_SIZE[0] / 2, FOCAL * y / z + IMAGE_SIZE[1] / 2]), z


def sweep_points(seconds: float, things: list[Thing], rng: np.random.Generator) -> np.ndarray:
    """float32 (N, 5) in the sensor's frame: points inside the things, on the ground and on the ego's own roof."""
    ground = rng.uniform(-45, 45, (1500, 2)) + np.array([EGO_SPEED * seconds, 0])
    parts = [np.column_stack([ground, np.zeros(1500)])]
    for thing in things:
        inside = rng.uniform(-0.47, 0.47, (thing.points, 3)) * thing.size
        parts.append(inside @ rotation(thing.yaw).T + thing.centre(seconds))
    in_base = np.concatenate(parts) - [EGO_SPEED * seconds, 0, 0]
    in_sensor = (in_base - SENSOR_XYZ) @ rotation(SENSOR_YAW)
    in_sensor = np.concatenate([in_sensor, rng.uniform(-0.9, 0.9, (20, 3))])
    intensity = rng.integers(0, 256, (len(in_sensor), 1))
    return np.column_stack([in_sensor, intensity, np.zeros(len(in_sensor))]).astype(np.float32)


def write_tiny_nuscenes(root: Path, scenes: dict[str, int] = SCENES, with_map: bool = True,
                        version: str = "v1.0-mini") -> Path:
    """Write the dataset and return `root`; v1.0-test comes without annotations, as the official one does."""
    tables = _common_tables()
    for number, (scene, keyframes) in enumerate(scenes.items()):
        _write_scene(root, tables, scene, keyframes, START_US + number * 10**9)
    if version == "v1.0-test":
        tables |= {"instance": [], "sample_annotation": []}
    folder = root / version
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (root / "maps").mkdir()
    (root / "maps" / "mask.png").write_bytes(b"")  # the devkit only wants it to exist
    if with_map:
        (root / "maps" / "expansion").mkdir()
        document = map_expansion(POLYGONS, HOLES, LINES)
        (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(document))
    return root


def _common_tables() -> dict[str, list[dict]]:
    categories, attributes = ({getattr(thing, key) for thing in THINGS} for key in ("category", "attribute"))
    return {
        "category": [{"token": name, "name": name, "description": ""} for name in sorted(categories)],
        "attribute": [{"token": name, "name": name, "description": ""} for name in sorted(attributes - {""})],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "sensor": [{"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
                   *({"token": name, "channel": name, "modality": "camera"} for name in CAMERAS)],
        "calibrated_sensor": [{"token": "lidar", "sensor_token": "lidar", "translation": SENSOR_XYZ.tolist(),
                               "rotation": quaternion(SENSOR_YAW), "camera_intrinsic": []},
                              *(_camera_calibration(name) for name in CAMERAS)],
        "log": [{"token": "log", "logfile": "tiny", "vehicle": "v", "date_captured": "2017-07-14",
                 "location": LOCATION}],
        "map": [{"token": "map", "category": "semantic_prior", "filename": "maps/mask.png", "log_tokens": ["log"]}],
        **{name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "instance", "sample_annotation")},
    }  # fmt: skip


def _camera_calibration(name: str) -> dict:
    """Camera axes are x right, y down, z along the view: the yaw of the view after the optical rotation."""
    place, yaw, _ = CAMERAS[name]
    cos, sin = np.cos(yaw / 2) / 2, np.sin(yaw / 2) / 2
    # (cos, 0, 0, sin) of the yaw times (1, −1, 1, −1) / 2, the rotation from optical axes to x forward, y left, z up
    wxyz = [cos + sin, -cos - sin, cos - sin, -cos + sin]
    width, height = IMAGE_SIZE
    return {"token": name, "sensor_token": name, "translation": list(place), "rotation": wxyz,
            "camera_intrinsic": [[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]]}


def _write_scene(root: Path, tables: dict[str, list[dict]], scene: str, keyframes: int, start_us: int) -> None:
    samples = [f"{scene}-{k}" for k in range(keyframes)]
    tables["scene"].append({"token": scene, "log_token": "log", "nbr_samples": keyframes, "name": scene,
                            "first_sample_token": samples[0], "last_sample_token": samples[-1], "description": ""})
    for k, (token, before, after) in enumerate(zip(samples, ["", *samples], [*samples[1:], ""], strict=False)):
        tables["sample"].append({"token": token, "timestamp": start_us + round(k * KEYFRAME_S * 1e6),
                                 "scene_token": scene, "prev": before, "next": after})
    counts = _write_sweeps(root, tables, scene, samples, start_us)
    _write_images(root, tables, samples, start_us)
    for number, thing in enumerate(THINGS):
        _annotate(tables, f"{scene}-{number}", thing, samples, counts)


def _write_sweeps(root: Path, tables: dict[str, list[dict]], scene: str, samples: list[str],
                  start_us: int) -> dict[tuple[str, Thing], int]:
    """Two sweeps before each keyframe and its own; returns the points in each thing of each keyframe."""
    rng = np.random.default_rng(sum(scene.encode()))
    counts, before = {}, ""
    for k, sample in enumerate(samples):
        for age in (2, 1, 0):
            seconds = k * KEYFRAME_S - age * SWEEP_S
            things = [thing for thing in THINGS if not thing.keyframes or k in thing.keyframes]
            token = f"{sample}-{age}"
            path = Path("sweeps" if age else "samples") / "LIDAR_TOP" / f"{token}.pcd.bin"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            sweep_points(seconds, things, rng).tofile(root / path)
            stamp = start_us + round(seconds * 1e6)
            position = to_global(np.array([EGO_SPEED * seconds, 0.0, 0.0]))
            tables["ego_pose"].append({"token": token, "timestamp": stamp, "translation": position.tolist(),
                                       "rotation": quaternion(HEADING)})
            if before:
                tables["sample_data"][-1]["next"] = token
            tables["sample_data"].append({
                "token": token, "sample_token": sample, "ego_pose_token": token, "calibrated_sensor_token": "lidar",
                "timestamp": stamp, "fileformat": "pcd", "is_key_frame": age == 0, "height": 0, "width": 0,
                "filename": str(path), "prev": before, "next": ""})
            before = token
        counts |= {(sample, thing): thing.points for thing in things}
    return counts


def _write_images(root: Path, tables: dict[str, list[dict]], samples: list[str], start_us: int) -> None:
    """Grey images with a white square where each thing's centre is seen."""
    for k, sample in enumerate(samples):
        for name, (_, _, delay) in CAMERAS.items():
            token, path = f"{sample}-{name}", Path("samples") / name / f"{sample}.jpg"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / path), picture(name, k))
            seconds = k * KEYFRAME_S + delay
            position = to_global(np.array([EGO_SPEED * seconds, 0.0, 0.0]))
            stamp = start_us + round(seconds * 1e6)
            tables["ego_pose"].append({"token": token, "timestamp": stamp, "translation": position.tolist(),
                                       "rotation": quaternion(HEADING)})
            tables["sample_data"].append({
                "token": token, "sample_token": sample, "ego_pose_token": token, "calibrated_sensor_token": name,
                "timestamp": stamp, "fileformat": "jpg", "is_key_frame": True, "width": IMAGE_SIZE[0],
                "height": IMAGE_SIZE[1], "filename": str(path), "prev": "", "next": ""})


def picture(camera: str, keyframe: int) -> np.ndarray:
    """uint8 (H, W, 3): a white square around each visible thing's centre on grey."""
    image = np.full((IMAGE_SIZE[1], IMAGE_SIZE[0], 3), 90, np.uint8)
    rows = np.array([row[:3] for _, row in boxes_in_base(keyframe)])
    centres, depths = pixels_of(camera, keyframe, rows)
    for u, v in centres[depths > 1]:
        column, row = int(np.floor(u)), int(np.floor(v))
        half = SQUARE // 2
        image[max(row - half, 0):max(row + half + 1, 0), max(column - half, 0):max(column + half + 1, 0)] = 255
    return image


def _annotate(tables: dict[str, list[dict]], instance: str, thing: Thing, samples: list[str],
              counts: dict[tuple[str, Thing], int]) -> None:
    seen = [k for k in range(len(samples)) if (samples[k], thing) in counts]
    tokens = [f"{instance}-{k}" for k in seen]
    if not seen:
        return
    tables["instance"].append({"token": instance, "category_token": thing.category, "nbr_annotations": len(seen),
                               "first_annotation_token": tokens[0], "last_annotation_token": tokens[-1]})
    for i, k in enumerate(seen):
        length, width, height = thing.size
        tables["sample_annotation"].append({
            "token": tokens[i], "sample_token": samples[k], "instance_token": instance, "visibility_token": "4",
            "attribute_tokens": [thing.attribute] if thing.attribute else [],
            "translation": to_global(thing.centre(k * KEYFRAME_S)).tolist(), "size": [width, length, height],
            "rotation": quaternion(HEADING + thing.yaw), "prev": tokens[i - 1] if i else "",
            "next": tokens[i + 1] if i + 1 < len(seen) else "", "num_lidar_pts": counts[samples[k], thing],
            "num_radar_pts": 0})


def map_expansion(polygons: dict, holes: dict, lines: dict) -> dict:
    """The JSON of the map expansion 1.3; coordinates of the street, the first polygon of a layer gets its holes."""
    nodes, polygon_rows, line_rows = [], [], []

    def add_nodes(coordinates: list[tuple[float, float]]) -> list[str]:
        tokens = [f"node{len(nodes) + i}" for i in range(len(coordinates))]
        nodes.extend({"token": token, "x": float(x), "y": float(y)}
                     for token, (x, y) in zip(tokens, to_global(np.array(coordinates)), strict=True))
        return tokens

    layers: dict[str, list] = {name: [] for name in (
        "drivable_area", "road_segment", "road_block", "lane", "ped_crossing", "walkway", "stop_line", "carpark_area",
        "road_divider", "lane_divider", "traffic_light", "lane_connector")}
    for layer, shapes in polygons.items():
        for i, shape in enumerate(shapes):
            token = f"{layer}{i}"
            inner = [{"node_tokens": add_nodes(hole)} for hole in holes.get(layer, ())] if i == 0 else []
            polygon_rows.append({"token": token, "exterior_node_tokens": add_nodes(shape), "holes": inner})
            key = {"polygon_tokens": [token]} if layer == "drivable_area" else {"polygon_token": token}
            cue = {"stop_line_type": "STOP_SIGN"} if layer == "stop_line" else {}
            layers[layer].append({"token": token, **key, **cue})
    for layer, shapes in lines.items():
        for i, shape in enumerate(shapes):
            token = f"{layer}{i}"
            line_rows.append({"token": token, "node_tokens": add_nodes(shape)})
            layers[layer].append({"token": token, "line_token": token})
    return {"version": "1.3", "canvas_edge": [1585.6, 2025.0], "polygon": polygon_rows, "line": line_rows,
            "node": nodes, **layers, "arcline_path_3": {}, "connectivity": {}}

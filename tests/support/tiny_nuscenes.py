"""The one writer of small nuScenes datasets: drives along the street, by default a scene of each mini split."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from support.map_expansion import map_expansion
from support.rig import CAMERAS, FOCAL, IMAGE_SIZE, LIDAR_XYZ, LIDAR_YAW, lens, mounting
from support.street import (
    GREY,
    HEADING,
    HOLES,
    LINES,
    LOCATION,
    POLYGONS,
    STRAIGHT,
    THINGS,
    Drive,
    Thing,
    ego_pose,
    picture,
    quaternion,
    rotation,
    sweep_points,
    to_global,
)

SCENES = {"scene-0061": 3, "scene-0103": 2}  # name → keyframes; the first is mini_train's, the second mini_val's
START_US = 1_500_000_000_000_000
SWEEP_S = 0.05


@dataclass(frozen=True)
class Scene:
    """A scene to write; start_us: stamp of its first keyframe."""

    name: str
    keyframes: int
    start_us: int
    cameras: tuple[str, ...]
    things: tuple[Thing, ...]
    drive: Drive

    @property
    def samples(self) -> list[str]:
        """Tokens of the keyframes."""
        return [f"{self.name}-{k}" for k in range(self.keyframes)]

    def things_in(self, keyframe: int) -> list[Thing]:
        return [thing for thing in self.things if not thing.keyframes or keyframe in thing.keyframes]

    def stamp_us(self, seconds: float) -> int:
        return self.start_us + round(seconds * 1e6)


def write_tiny_nuscenes(
    root: Path,
    scenes: dict[str, int] = SCENES,
    with_map: bool = True,
    version: str = "v1.0-mini",
    cameras: tuple[str, ...] = tuple(CAMERAS),
    things: tuple[Thing, ...] = THINGS,
    drive: Drive = STRAIGHT,
) -> Path:
    """Write the dataset and return `root`; v1.0-test comes without annotations, as the official one does.

    On a drive that is not straight, images are grey alone.
    """
    tables = _common_tables(cameras, things)
    for number, (scene, keyframes) in enumerate(scenes.items()):
        _write_scene(root, tables, Scene(scene, keyframes, START_US + number * 10**9, cameras, things, drive))
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


def _common_tables(cameras: tuple[str, ...], things: tuple[Thing, ...]) -> dict[str, list[dict]]:
    categories, attributes = ({getattr(thing, key) for thing in things} for key in ("category", "attribute"))
    return {
        "category": [{"token": name, "name": name, "description": ""} for name in sorted(categories)],
        "attribute": [{"token": name, "name": name, "description": ""} for name in sorted(attributes - {""})],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "sensor": [
            {"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
            *({"token": name, "channel": name, "modality": "camera"} for name in cameras),
        ],
        "calibrated_sensor": [
            {
                "token": "lidar",
                "sensor_token": "lidar",
                "translation": LIDAR_XYZ.tolist(),
                "rotation": quaternion(rotation(LIDAR_YAW)),
                "camera_intrinsic": [],
            },
            *(_camera_calibration(name) for name in cameras),
        ],
        "log": [
            {"token": "log", "logfile": "tiny", "vehicle": "v", "date_captured": "2017-07-14", "location": LOCATION}
        ],
        "map": [{"token": "map", "category": "semantic_prior", "filename": "maps/mask.png", "log_tokens": ["log"]}],
        **{name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "instance", "sample_annotation")},
    }


def _camera_calibration(name: str) -> dict:
    place, yaw, _ = CAMERAS[name]
    return {
        "token": name,
        "sensor_token": name,
        "translation": list(place),
        "rotation": quaternion(mounting(yaw)[:3, :3]),
        "camera_intrinsic": lens(FOCAL, *IMAGE_SIZE).tolist(),
    }


def _write_scene(root: Path, tables: dict[str, list[dict]], scene: Scene) -> None:
    samples = scene.samples
    tables["scene"].append(
        {
            "token": scene.name,
            "log_token": "log",
            "nbr_samples": len(samples),
            "name": scene.name,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "description": "",
        }
    )
    for k, (token, before, after) in enumerate(zip(samples, ["", *samples], [*samples[1:], ""], strict=False)):
        tables["sample"].append(
            {
                "token": token,
                "timestamp": scene.stamp_us(k * scene.drive.keyframe_s),
                "scene_token": scene.name,
                "prev": before,
                "next": after,
            }
        )
    _write_sweeps(root, tables, scene)
    for camera in scene.cameras:
        _write_images(root, tables, scene, camera)
    for number, thing in enumerate(scene.things):
        _annotate(tables, scene, f"{scene.name}-{number}", thing)


def _write_sweeps(root: Path, tables: dict[str, list[dict]], scene: Scene) -> None:
    """Two sweeps before each keyframe and its own."""
    rng, before = np.random.default_rng(sum(scene.name.encode())), ""
    for k, sample in enumerate(scene.samples):
        for age in (2, 1, 0):
            seconds = k * scene.drive.keyframe_s - age * SWEEP_S
            token = f"{sample}-{age}"
            path = Path("sweeps" if age else "samples") / "LIDAR_TOP" / f"{token}.pcd.bin"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            sweep_points(seconds, scene.things_in(k), rng, scene.drive).tofile(root / path)
            stamp = scene.stamp_us(seconds)
            tables["ego_pose"].append({"token": token, "timestamp": stamp, **ego_pose(seconds, scene.drive)})
            if before:
                tables["sample_data"][-1]["next"] = token
            tables["sample_data"].append(
                {
                    "token": token,
                    "sample_token": sample,
                    "ego_pose_token": token,
                    "calibrated_sensor_token": "lidar",
                    "timestamp": stamp,
                    "fileformat": "pcd",
                    "is_key_frame": age == 0,
                    "height": 0,
                    "width": 0,
                    "filename": str(path),
                    "prev": before,
                    "next": "",
                }
            )
            before = token


def _write_images(root: Path, tables: dict[str, list[dict]], scene: Scene, camera: str) -> None:
    """Grey images with a white square where each thing's centre is seen."""
    grey = np.full((*IMAGE_SIZE[::-1], 3), GREY, np.uint8)
    for k, sample in enumerate(scene.samples):
        token, path = f"{sample}-{camera}", Path("samples") / camera / f"{sample}.jpg"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path), picture(camera, k) if scene.drive == STRAIGHT else grey)
        seconds = k * scene.drive.keyframe_s + CAMERAS[camera][2]
        stamp = scene.stamp_us(seconds)
        tables["ego_pose"].append({"token": token, "timestamp": stamp, **ego_pose(seconds, scene.drive)})
        tables["sample_data"].append(
            {
                "token": token,
                "sample_token": sample,
                "ego_pose_token": token,
                "calibrated_sensor_token": camera,
                "timestamp": stamp,
                "fileformat": "jpg",
                "is_key_frame": True,
                "width": IMAGE_SIZE[0],
                "height": IMAGE_SIZE[1],
                "filename": str(path),
                "prev": "",
                "next": "",
            }
        )


def _annotate(tables: dict[str, list[dict]], scene: Scene, instance: str, thing: Thing) -> None:
    seen = [k for k in range(scene.keyframes) if thing in scene.things_in(k)]
    tokens = [f"{instance}-{k}" for k in seen]
    if not seen:
        return
    tables["instance"].append(
        {
            "token": instance,
            "category_token": thing.category,
            "nbr_annotations": len(seen),
            "first_annotation_token": tokens[0],
            "last_annotation_token": tokens[-1],
        }
    )
    for i, k in enumerate(seen):
        length, width, height = thing.size
        tables["sample_annotation"].append(
            {
                "token": tokens[i],
                "sample_token": scene.samples[k],
                "instance_token": instance,
                "visibility_token": "4",
                "attribute_tokens": [thing.attribute] if thing.attribute else [],
                "translation": to_global(thing.centre(k * scene.drive.keyframe_s)).tolist(),
                "size": [width, length, height],
                "rotation": quaternion(rotation(HEADING + thing.yaw)),
                "prev": tokens[i - 1] if i else "",
                "next": tokens[i + 1] if i + 1 < len(seen) else "",
                "num_lidar_pts": thing.points,
                "num_radar_pts": 0,
            }
        )

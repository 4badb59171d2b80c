"""Writing of one scene: drive through its world, write the sensors' files, then its tables in one file."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from vexkd_model.config.sensors import NUSCENES, SensorsConfig
from vexkd_model.data.scene_tables import Drive, SceneTables, SensorFile
from vexkd_model.data.splits import LIDAR
from vexkd_model.files import write_json
from vexkd_model.geometry.transforms import apply, quaternion_from_matrix
from vexkd_model.synth.actors import Actor
from vexkd_model.synth.cameras import render
from vexkd_model.synth.lidar import scan
from vexkd_model.synth.lighting import LightSource
from vexkd_model.synth.maps import scene_geometry
from vexkd_model.synth.presets import KEYFRAME_INTERVAL_US, MAP_NAMES, SWEEP_INTERVAL_US, Preset
from vexkd_model.synth.rig import camera_stamp_us
from vexkd_model.synth.tables import add_annotations, calibrate
from vexkd_model.synth.world import (
    CAMERA_STREAM,
    LIDAR_STREAM,
    TRIGGER_STREAM,
    World,
    build_world,
    patch_origin,
    random_stream,
    world_from_ego,
)

FIRST_STAMP_US = 1_530_000_000_000_000
SCENE_SPACING_US = 60_000_000
RECORDS = "scenes"  # folder of finished scenes' records, inside OUT/.synth
PARTIAL = "partial"  # folder of unfinished scenes' files, inside OUT/.synth
WORK = ".synth"


def record_path(out: Path, name: str) -> Path:
    """Path of the file whose presence says that a scene is complete."""
    return out / WORK / RECORDS / f"{name}.json"


@dataclass(frozen=True)
class _Drive:
    """Drive through one scene: files go to `folder`, rows to `tables`; time 0 is at start_us.

    number: the scene's own, see `Preset.scene_number`. calibrations: tokens of its sensors'. offset: (2,) [m], the
    scene's origin on its map.
    """

    folder: Path
    world: World
    tables: SceneTables
    calibrations: dict[str, str]
    offset: np.ndarray
    preset: Preset
    seed: int
    number: int
    device: str

    @property
    def start_us(self) -> int:
        return FIRST_STAMP_US + self.number * SCENE_SPACING_US

    @property
    def keyframes(self) -> list[int]:
        """Stamps of the keyframes [µs]."""
        return [self.start_us + k * KEYFRAME_INTERVAL_US for k in range(self.preset.keyframes)]

    @property
    def logfile(self) -> str:
        """Name of the drive that the scene was recorded on; every file name starts with it."""
        return f"synth-{self.seed}-{self.tables.name}"

    def seconds(self, stamp_us: int) -> float:
        return (stamp_us - self.start_us) * 1e-6

    def file(self, channel: str, stamp_us: int, is_keyframe: bool, ending: str) -> tuple[str, Path]:
        """Name of a file inside the dataset, and the path where it is written."""
        kind = "samples" if is_keyframe else "sweeps"
        name = f"{kind}/{channel}/{self.logfile}__{channel}__{stamp_us}.{ending}"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return name, path

    def add_file(self, channel: str, stamp_us: int, keyframe_us: int, filename: str, size: tuple[int, int]) -> None:
        """Add the row of a file, with the vehicle's pose at its time."""
        world_from_base = world_from_ego(self.world.ego, self.seconds(stamp_us))
        x, y = world_from_base[:2, 3] + self.offset
        self.tables.add_file(
            SensorFile(
                channel,
                stamp_us,
                keyframe_us,
                channel != LIDAR or stamp_us == keyframe_us,
                filename,
                "pcd" if channel == LIDAR else "jpg",
                self.calibrations[channel],
                [x, y, 0.0],
                quaternion_from_matrix(world_from_base).tolist(),
                size,
            )
        )


def write_scene(
    out: Path, preset: Preset, seed: int, name: str, device: str = "cpu", sensors: SensorsConfig = NUSCENES
) -> str:
    """Write one scene and return its name. Files move into place when all are there, the record last of all."""
    torch.set_num_threads(1)  # the last bits of a sum may depend on the number of threads
    number = preset.scene_number(name)
    slot, town = divmod(preset.scene_names.index(name), len(MAP_NAMES))
    partial = out / WORK / PARTIAL / name
    shutil.rmtree(partial, ignore_errors=True)
    world, tables = build_world(seed, number, preset.duration_s, device, sensors), SceneTables(name, seed)
    drive = _Drive(
        partial,
        world,
        tables,
        calibrate(tables, world.rig, preset.image_width),
        patch_origin(slot),
        preset,
        seed,
        number,
        device,
    )
    tables.add_scene(
        Drive(drive.logfile, "synth", "2018-07-01", MAP_NAMES[town]), drive.keyframes, _describe(drive.world)
    )
    _write_lidar(drive)
    _write_images(drive)
    tables.link_files()
    for source in sorted(path for path in partial.rglob("*") if path.is_file()):
        target = out / source.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    shutil.rmtree(partial)
    write_json(
        record_path(out, name),
        {
            "tables": tables.rows,
            "location": MAP_NAMES[town],
            "slot": slot,
            "map": scene_geometry(drive.world.layout, drive.offset),
        },
        indent=None,
    )
    return name


def sweep_stamps(preset: Preset, interval_us: int, stamps: list[int]) -> list[tuple[int, int]]:
    """List (time, time of the keyframe that it belongs to) [µs] of every LiDAR revolution, in time order."""
    times = []
    for k, stamp in enumerate(stamps):
        before = preset.sweeps_before_keyframe if k else preset.sweeps_before_scene
        count = before * SWEEP_INTERVAL_US // interval_us
        times += [(stamp - i * interval_us, stamp) for i in range(count, -1, -1)]
    return times


def _write_lidar(drive: _Drive) -> None:
    """Write all sweeps, and the annotations, which count the keyframes' points."""
    world, counts, visible = drive.world, [], []
    for number, (stamp, keyframe) in enumerate(
        sweep_stamps(drive.preset, world.rig.lidar.interval_us, drive.keyframes)
    ):
        time_s = drive.seconds(stamp)
        rng = random_stream(drive.seed, drive.number, LIDAR_STREAM, number)
        revolution = scan(world, time_s, rng, drive.device)
        world_from_base = world_from_ego(world.ego, time_s)
        name, path = drive.file(LIDAR, stamp, stamp == keyframe, "pcd.bin")
        revolution.points.tofile(path)
        drive.add_file(LIDAR, stamp, keyframe, name, (0, 0))
        if stamp == keyframe:
            points = apply(world_from_base @ world.rig.base_from_lidar, revolution.points[:, :3].astype(np.float64))
            counts.append([points_inside(points, actor, time_s) for actor in world.actors])
            visible.append(revolution.visible)
    times = [drive.seconds(stamp) for stamp in drive.keyframes]
    add_annotations(
        drive.tables, world.actors, drive.keyframes, times, drive.offset, np.array(counts), np.array(visible)
    )


def points_inside(points: np.ndarray, actor: Actor, time_s: float) -> int:
    """Count the points (N, 3) of the scene's frame that lie in an actor's box."""
    centre, yaw = actor.box(time_s)
    reach = np.hypot(*actor.size[:2]) / 2
    near = points[(np.abs(points[:, 0] - centre[0]) < reach) & (np.abs(points[:, 1] - centre[1]) < reach)] - centre
    cos, sin = np.cos(yaw), np.sin(yaw)
    along, across = cos * near[:, 0] + sin * near[:, 1], cos * near[:, 1] - sin * near[:, 0]
    length, width, height = actor.size / 2
    return int(((np.abs(along) <= length) & (np.abs(across) <= width) & (np.abs(near[:, 2]) <= height)).sum())


def _write_images(drive: _Drive) -> None:
    """Write each camera's image a keyframe, at its own time, with the shadows and lamps of the LiDAR's time."""
    width = drive.preset.image_width
    quality = [cv2.IMWRITE_JPEG_QUALITY, drive.preset.jpeg_quality]
    source = LightSource(drive.world, drive.device)
    for k, keyframe in enumerate(drive.keyframes):
        light = source.at(drive.seconds(keyframe))
        trigger = random_stream(drive.seed, drive.number, TRIGGER_STREAM, k)
        for number, camera in enumerate(drive.world.rig.cameras):
            size = (width, camera.height(width))
            stamp = camera_stamp_us(camera, keyframe, trigger)
            time_s = drive.seconds(stamp)
            rng = random_stream(drive.seed, drive.number, CAMERA_STREAM, k, number)
            image = render(drive.world, camera, time_s, size, light, rng, drive.device)
            name, path = drive.file(camera.channel, stamp, True, "jpg")
            path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], quality)[1].tobytes())
            drive.add_file(camera.channel, stamp, keyframe, name, size)


def _describe(world: World) -> str:
    kinds = sorted({actor.name.replace("_", " ") for actor in world.actors})
    place = "junction" if world.layout.cross is not None else "street"
    return f"Synthetic {place}, {world.weather.words}: {', '.join(kinds)}"

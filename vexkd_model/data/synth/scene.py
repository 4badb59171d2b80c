"""One scene on disk: drive through its world, write what the sensors see, then its tables in one file."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch

from vexkd_model.data.synth.actors import Actor
from vexkd_model.data.synth.appearance import draw_daylight
from vexkd_model.data.synth.cameras import RIG, render
from vexkd_model.data.synth.lidar import base_from_lidar, scan
from vexkd_model.data.synth.maps import scene_geometry
from vexkd_model.data.synth.presets import KEYFRAME_INTERVAL_US, MAP_NAMES, SWEEP_INTERVAL_US, Preset
from vexkd_model.data.synth.tables import LIDAR, SceneTables
from vexkd_model.data.synth.world import (
    CAMERA_STREAM,
    LIDAR_STREAM,
    World,
    build_world,
    patch_origin,
    random_stream,
    world_from_ego,
)
from vexkd_model.geometry.transforms import apply

FIRST_STAMP_US = 1_530_000_000_000_000
SCENE_SPACING_US = 60_000_000
RECORDS = "scenes"  # folder of finished scenes' records, inside OUT/.synth
PARTIAL = "partial"  # folder of unfinished scenes' files, inside OUT/.synth
WORK = ".synth"


def record_path(out: Path, name: str) -> Path:
    """The file whose presence says that a scene is complete."""
    return out / WORK / RECORDS / f"{name}.json"


def write_scene(out: Path, preset: Preset, seed: int, name: str, device: str = "cpu") -> None:
    """Write one scene. Its files move into place when all are there, and its record last of all."""
    torch.set_num_threads(1)  # the last bits of a sum may depend on the number of threads
    index = preset.scene_names.index(name)
    partial = out / WORK / PARTIAL / name
    shutil.rmtree(partial, ignore_errors=True)
    world = build_world(seed, index, preset.duration_s, device)
    tables = SceneTables(name, seed, MAP_NAMES[index % len(MAP_NAMES)], patch_origin(index // len(MAP_NAMES)))
    start_us = FIRST_STAMP_US + index * SCENE_SPACING_US
    stamps = [start_us + k * KEYFRAME_INTERVAL_US for k in range(preset.keyframes)]
    tables.add_scene(stamps, _describe(world))
    _write_lidar(partial, world, tables, preset, seed, index, stamps, device)
    _write_images(partial, world, tables, preset, seed, index, stamps, device)
    tables.link_sample_data()
    for source in sorted(path for path in partial.rglob("*") if path.is_file()):
        target = out / source.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    shutil.rmtree(partial)
    record = {"tables": tables.rows, "location": tables.location, "slot": index // len(MAP_NAMES),
              "map": scene_geometry(world.layout, tables.offset)}  # fmt: skip
    write_json(record_path(out, name), record)


def write_json(path: Path, content: object) -> None:
    """Write a file in one step: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, separators=(",", ":")))
    os.replace(partial, path)


def sweep_stamps(preset: Preset, stamps: list[int]) -> list[tuple[int, int]]:
    """(time, time of the keyframe that it belongs to) [µs] of every LiDAR revolution, in time order."""
    times = []
    for k, stamp in enumerate(stamps):
        before = preset.sweeps_before_keyframe if k else preset.sweeps_before_scene
        times += [(stamp - i * SWEEP_INTERVAL_US, stamp) for i in range(before, -1, -1)]
    return times


def _write_lidar(folder: Path, world: World, tables: SceneTables, preset: Preset, seed: int, index: int,
                 stamps: list[int], device: str) -> None:
    """All sweeps, and the annotations, which count the keyframes' points."""
    counts, visible = [], []
    for number, (stamp, keyframe) in enumerate(sweep_stamps(preset, stamps)):
        time_s = (stamp - stamps[0]) * 1e-6
        revolution = scan(world, time_s, random_stream(seed, index, LIDAR_STREAM, number), device)
        world_from_base = world_from_ego(world.ego, time_s)
        filename = _filename(tables, LIDAR, stamp, stamp == keyframe, "pcd.bin")
        path = folder / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        revolution.points.tofile(path)
        tables.add_sample_data(LIDAR, stamp, keyframe, filename, world_from_base)
        if stamp == keyframe:
            points = apply(world_from_base @ base_from_lidar(), revolution.points[:, :3].astype(np.float64))
            counts.append([points_inside(points, actor, time_s) for actor in world.actors])
            visible.append(revolution.visible)
    times = [(stamp - stamps[0]) * 1e-6 for stamp in stamps]
    tables.add_annotations(world.actors, stamps, times, np.array(counts), np.array(visible))


def points_inside(points: np.ndarray, actor: Actor, time_s: float) -> int:
    """How many points (N, 3) of the scene's frame lie in an actor's box."""
    centre, yaw = actor.box(time_s)
    reach = np.hypot(*actor.size[:2]) / 2
    near = points[(np.abs(points[:, 0] - centre[0]) < reach) & (np.abs(points[:, 1] - centre[1]) < reach)] - centre
    cos, sin = np.cos(yaw), np.sin(yaw)
    along, across = cos * near[:, 0] + sin * near[:, 1], cos * near[:, 1] - sin * near[:, 0]
    length, width, height = actor.size / 2
    return int(((np.abs(along) <= length) & (np.abs(across) <= width) & (np.abs(near[:, 2]) <= height)).sum())


def _write_images(folder: Path, world: World, tables: SceneTables, preset: Preset, seed: int, index: int,
                  stamps: list[int], device: str) -> None:
    """Six images a keyframe, all at the keyframe's time."""
    size = (preset.image_width, preset.image_height)
    light = draw_daylight(random_stream(seed, index, CAMERA_STREAM))
    for camera in RIG:
        for k, stamp in enumerate(stamps):
            time_s = (stamp - stamps[0]) * 1e-6
            rng = random_stream(seed, index, CAMERA_STREAM, 1 + k, RIG.index(camera))
            image = render(world, camera, time_s, size, light, rng, device)
            filename = _filename(tables, camera.channel, stamp, True, "jpg")
            path = folder / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, preset.jpeg_quality])
            path.write_bytes(encoded.tobytes())
            tables.add_sample_data(camera.channel, stamp, stamp, filename, world_from_ego(world.ego, time_s), size)


def _filename(tables: SceneTables, channel: str, stamp: int, is_keyframe: bool, ending: str) -> str:
    folder = "samples" if is_keyframe else "sweeps"
    return f"{folder}/{channel}/{tables.logfile}__{channel}__{stamp}.{ending}"


def _describe(world: World) -> str:
    kinds = sorted({actor.name.replace("_", " ") for actor in world.actors})
    place = "junction" if world.layout.cross is not None else "street"
    return f"Synthetic {place}: {', '.join(kinds)}"

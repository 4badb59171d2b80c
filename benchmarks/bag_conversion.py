"""Speed of nuscenes_to_bag beside a plain copy of the same files.

A keyframe of the nuScenes folder DATAROOT is repeated, by links to its own files, as a scene of FRAMES keyframes, with
ten sweeps and six images each. In turns, in one process, its files are copied (`shutil.copyfile`), written as a bag of
sensor data alone, and as a bag of everything. The tables are open already, as they are from the second scene of a
dataset on. Of each, the fastest round counts, for other work on the machine only slows; the processor's time is that of
this process, in and outside of the kernel.

The claim, exit code 1 where it fails: sensor data goes into a bag at least half as fast as it is copied.

    python benchmarks/bag_conversion.py ../shared/nuscenes_keyframe
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from loading import VERSION, repeat_keyframe
from machine import machine

from vexkd_model.data.schema import open_nuscenes
from vexkd_model.files import write_json
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.bags.scene.tables import SceneRecord, read_scene
from vexkd_ros.bags.scene_bag import SceneBag, write_scene_bag
from vexkd_ros.bags.writing import STORAGES, BagFormat

LEAST = 0.5  # of a copy's speed
SENSOR_DATA = Selection(topics=("/lidar/points", "/*/image/compressed"))


def copy_files(scene: SceneRecord, folder: Path) -> None:
    folder.mkdir()
    for channel, captures in scene.sensors.items():
        for capture in captures:
            shutil.copyfile(capture.path, folder / f"{channel}_{capture.path.name}")


def bag_writer(scene: SceneRecord, selection: Selection, storage: str) -> Callable[[Path], None]:
    return lambda folder: write_scene_bag(
        (
            SceneBag(
                folder, "benchmark", selection, BagFormat(storage), f"{scene.name}, {storage}", shows_progress=False
            ),
            scene,
        )
    )


def fastest(ways: dict[str, Callable[[Path], None]], folder: Path, rounds: int) -> dict[str, np.ndarray]:
    """Measure the wall and processor time [s] of each way's fastest round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, write in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            write(folder / "out")
            seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
            shutil.rmtree(folder / "out")
    return {name: np.min(rounds_s, axis=0) for name, rounds_s in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="nuScenes folder, version v1.0-mini")
    parser.add_argument("--frames", type=int, default=20, help="keyframes of the scene (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="of each way (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    figures: dict[str, object] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "data"
        repeat_keyframe(arguments.dataroot, root, arguments.frames)
        nusc = open_nuscenes(root, VERSION)
        scene = read_scene(nusc, nusc.scene[0])
        files = [capture.path for captures in scene.sensors.values() for capture in captures]
        size = sum(path.stat().st_size for path in files) / 1e6
        ways = {
            "copy of the files": lambda folder: copy_files(scene, folder),
            **{f"bag of sensor data, {storage}": bag_writer(scene, SENSOR_DATA, storage) for storage in STORAGES},
            "bag of everything, mcap": bag_writer(scene, Selection(), "mcap"),
        }
        seconds = fastest(ways, Path(temporary), arguments.rounds)
    figures["files"], figures["MB"] = len(files), round(size, 1)
    copy = seconds["copy of the files"]
    for name, (wall, processor) in seconds.items():
        figures[name] = {
            "frames/s": round(len(files) / wall),
            "MB/s": round(size / wall),
            "of a copy's speed": round(copy[0] / wall, 2),
            "of a copy's processor time": round(processor / copy[1], 2),
        }
    for key, value in figures.items():
        print(f"{key:30} {value}")
    if arguments.json:
        write_json(arguments.json, figures)
    return 0 if copy[0] / seconds["bag of sensor data, mcap"][0] >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())

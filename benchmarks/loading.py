"""Loading speed beside the devkit's on the same files, and memory of a worker on an index as long as nuScenes'.

A keyframe of the nuScenes folder DATAROOT is repeated, by links to its own files, as a scene in which every frame has
ten sweeps and six images. Frame by frame, in one process, it is then loaded by the devkit's
`LidarPointCloud.from_file_multisweep` with PIL, and by `read_frame`, which gives ten sweeps in base_link and six images
of 704×256 with their calibration. Memory is that of a DataLoader's workers on an index of 28,130 samples, as many as
nuScenes' train split has.

Two claims, exit code 1 where one fails: on all cores, frames come at least five times as fast as the devkit and PIL
make the same ones; a worker more costs less than 200 MB.

    python benchmarks/loading.py ../shared/nuscenes_keyframe
"""

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import machine
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from PIL import Image
from torch.utils.data import DataLoader

from vexkd_model.config.camera import ImageAugmentConfig, ImageConfig
from vexkd_model.config.training import AugmentConfig
from vexkd_model.data.batch import collate
from vexkd_model.data.dataset import TrainingSet, read_frame
from vexkd_model.data.index import FRAMES, MANIFEST, MASKS, FrameIndex
from vexkd_model.data.prepare import prepare, write_frames
from vexkd_model.data.sampling import EpochSampler
from vexkd_model.files import write_json
from vexkd_model.process import set_up_process
from vexkd_model.progress import progress
from vexkd_model.types import CAMERAS

SWEEPS, SWEEP_US, SPEED = 10, 50_000, 5.0  # sweeps a frame; µs between them; of the vehicle [m/s]
TURN = 10  # frames
TIMES_AS_FAST, WORKER_BYTES = 5.0, 200e6  # the claims
VERSION, SPLIT, SCENE = "v1.0-mini", "mini_train", "scene-0061"
RESIZED, CROP = (768, 432), (32, 176, 736, 432)  # the published test view of 1600×900: 0.48, then 704×256 at the bottom
IMAGES = ImageConfig(
    width=704,
    height=256,
    zoom=0.48 / 0.44,
    cameras=CAMERAS,
    augment=ImageAugmentConfig(zoom=(0.38 / 0.44, 0.55 / 0.44), rotation=0.0942, flip=True),
)
AUGMENT = AugmentConfig(rotation=0.3925, scale=0.05, translation=0.5, flip=True)


def repeat_keyframe(dataroot: Path, root: Path, frames: int) -> None:
    """Write `root`, a dataset whose frames all are the first keyframe of `dataroot`, on a straight drive."""
    nusc = NuScenes(VERSION, str(dataroot), verbose=False)
    tables = {path.stem: json.loads(path.read_text()) for path in (dataroot / VERSION).glob("*.json")}
    sample = nusc.sample[0]
    annotations = [row for row in tables["sample_annotation"] if row["sample_token"] == sample["token"]]
    for name in ("sample", "sample_data", "sample_annotation", "ego_pose"):
        tables[name] = []
    for k in range(frames):
        token, stamp = f"sample{k}", sample["timestamp"] + k * SWEEPS * SWEEP_US
        tables["sample"].append(
            {
                **sample,
                "token": token,
                "timestamp": stamp,
                "prev": f"sample{k - 1}" if k else "",
                "next": f"sample{k + 1}" if k + 1 < frames else "",
            }
        )
        tables["sample_annotation"] += [
            {**row, "token": f"{token}-{row['token']}", "sample_token": token, "prev": "", "next": ""}
            for row in annotations
        ]
    for channel in ("LIDAR_TOP", *CAMERAS):
        _add_files(tables, root, nusc, sample["data"][channel], channel, frames)
    tables["scene"] = [
        {
            **tables["scene"][0],
            "name": SCENE,
            "nbr_samples": frames,
            "first_sample_token": "sample0",
            "last_sample_token": f"sample{frames - 1}",
        }
    ]
    for row in tables["sample"]:
        for key in ("data", "anns"):
            row.pop(key, None)
    for name, rows in tables.items():
        write_json(root / VERSION / f"{name}.json", rows, indent=None)
    os.symlink(dataroot.resolve() / "maps", root / "maps")


def _add_files(tables: dict, root: Path, nusc: NuScenes, first: str, channel: str, frames: int) -> None:
    """Add records and links of one sensor's files: ten for each LiDAR frame, the last of them its keyframe's."""
    record = nusc.get("sample_data", first)
    pose = nusc.get("ego_pose", record["ego_pose_token"])
    file = Path(nusc.dataroot) / record["filename"]
    every = SWEEPS if channel == "LIDAR_TOP" else 1
    count = frames * every
    for n in range(count):
        token, is_key = f"{channel}{n}", n % every == every - 1
        stamp = record["timestamp"] + (n - every + 1) * SWEEPS // every * SWEEP_US
        path = Path("samples" if is_key else "sweeps") / channel / f"{n}{file.suffix}"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(file.resolve(), root / path)
        moved = SPEED * (stamp - record["timestamp"]) * 1e-6
        translation = [pose["translation"][0] + moved, *pose["translation"][1:]]
        tables["ego_pose"].append({**pose, "token": token, "timestamp": stamp, "translation": translation})
        tables["sample_data"].append(
            {
                "token": token,
                "sample_token": f"sample{n // every}",
                "ego_pose_token": token,
                "filename": str(path),
                "calibrated_sensor_token": record["calibrated_sensor_token"],
                "timestamp": stamp,
                "is_key_frame": is_key,
                "fileformat": record["fileformat"],
                "width": record["width"],
                "height": record["height"],
                "prev": f"{channel}{n - 1}" if n else "",
                "next": f"{channel}{n + 1}" if n + 1 < count else "",
            }
        )


def devkit_frame(nusc: NuScenes, i: int, fit: bool) -> tuple:
    """Load ten sweeps and six images; fit: resize and crop them, too, as the published pipelines do with PIL."""
    sample = nusc.sample[i]
    points = LidarPointCloud.from_file_multisweep(nusc, sample, "LIDAR_TOP", "LIDAR_TOP", SWEEPS)
    images = [Image.open(nusc.get_sample_data_path(sample["data"][name])) for name in CAMERAS]
    return points, [np.asarray(image.resize(RESIZED).crop(CROP) if fit else image) for image in images]


def speeds(loaders: dict[str, Callable[[int], object]], frames: int) -> dict[str, float]:
    """Measure the frames a second of each loader, in turns of TURN frames, so that other load meets all alike.

    The first frame of a turn is loaded twice and counted once, because it pays for the memory of the turn before.
    """
    seconds = {name: [] for name in loaders}
    for start in progress(range(0, frames, TURN), "loading", unit="turns"):
        for name, load in loaders.items():
            load(start)
            for i in range(start, min(start + TURN, frames)):
                begin = time.perf_counter()
                load(i)
                seconds[name].append(time.perf_counter() - begin)
    return {name: round(1 / float(np.median(values)), 2) for name, values in seconds.items()}


def repeat_index(index: FrameIndex, folder: Path, samples: int) -> FrameIndex:
    """Write an index of `samples` rows that repeat those of `index`, with empty map masks."""
    target = folder / SPLIT
    target.mkdir(parents=True)
    rows = pa.ipc.open_file(pa.memory_map(str(index.folder / FRAMES))).read_all().combine_chunks()
    (batch,) = rows.to_batches()
    write_frames(target / FRAMES, (batch.slice(0, min(len(batch), samples - i)) for i in range(0, samples, len(batch))))
    np.lib.format.open_memmap(target / MASKS, "w+", np.uint8, (samples, 6 * 200 * 200 // 8))
    manifest = json.loads((index.folder / MANIFEST).read_text())
    write_json(target / MANIFEST, {**manifest, "frames": samples, "has_maps": True})
    return FrameIndex.open(folder, SPLIT)


def worker_memory(index: FrameIndex, workers: int, batches: int) -> dict[str, float]:
    """Measure the mean memory of a worker [MiB]: private after half and all batches, and proportional at the end.

    Proportional memory holds the worker's part of what is shared.
    """
    data = TrainingSet(index, SWEEPS, AUGMENT, 0, IMAGES)
    loader = DataLoader(
        data, 1, sampler=EpochSampler(len(index), 0), collate_fn=partial(collate, images=IMAGES), num_workers=workers
    )
    iterator = iter(loader)
    memory = []
    for half in (batches // 2, batches - batches // 2):
        for _ in progress(itertools.islice(iterator, half), f"{workers} workers", half, "batches"):
            pass
        children = [child.pid for child in multiprocessing.active_children() if child.pid]
        memory.append(np.mean([_memory(child) for child in children], axis=0))
    (half_way, _), (private, proportional) = np.round(memory, 1).tolist()
    return {"private, half way": half_way, "private": private, "proportional": proportional}


def _memory(pid: int) -> tuple[float, float]:
    """Read the private and proportional memory of a process [MiB]."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    mib = {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines}
    return mib["Private_Clean"] + mib["Private_Dirty"], mib["Pss"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="nuScenes folder, version v1.0-mini, of 1600×900 images")
    parser.add_argument("--frames", type=int, default=40, help="loaded by each (default: 40)")
    parser.add_argument("--samples", type=int, default=28_130, help="in the long index (default: 28130)")
    parser.add_argument("--workers", type=int, default=4, help="whose memory is measured (default: 4)")
    parser.add_argument("--batches", type=int, default=60, help="that they load before (default: 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    set_up_process()
    figures: dict[str, object] = {"machine": machine(), "frames": arguments.frames}
    with tempfile.TemporaryDirectory() as temporary:
        root, cores = Path(temporary) / "data", os.sched_getaffinity(0)
        repeat_keyframe(arguments.dataroot, root, arguments.frames)
        prepare(root, VERSION, Path(temporary) / "index", [SPLIT])
        index, nusc = FrameIndex.open(Path(temporary) / "index", SPLIT), NuScenes(VERSION, str(root), verbose=False)
        loaders = {
            "devkit and PIL": lambda i: devkit_frame(nusc, i, fit=False),
            "devkit and PIL, resized and cropped": lambda i: devkit_frame(nusc, i, fit=True),
            "read_frame": lambda i: read_frame(index[i], SWEEPS, IMAGES),
        }
        fast = False
        for name, used in (("all cores", cores), ("one core", {min(cores)})):
            os.sched_setaffinity(0, used)
            figures[f"frames/s, {name}"] = speed = speeds(loaders, arguments.frames)
            ratios = {other: round(speed["read_frame"] / speed[other], 2) for other in speed if other != "read_frame"}
            figures[f"times as fast, {name}"] = ratios
            if name == "all cores":
                fast = ratios["devkit and PIL, resized and cropped"] >= TIMES_AS_FAST
        os.sched_setaffinity(0, cores)
        long_index = repeat_index(index, Path(temporary) / "long", arguments.samples)
        figures["samples in the index"] = len(long_index)
        memory = worker_memory(long_index, arguments.workers, arguments.batches)
        figures[f"MiB a worker, of {arguments.workers}"] = memory
    for key, value in figures.items():
        print(f"{key:26} {value}")
    if arguments.json:
        write_json(arguments.json, figures)
    return 0 if fast and memory["private"] * 2**20 < WORKER_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory against the size of the input: points a sweep, cameras, range, detections, frames in the index.

Small models with random weights on generated frames, one thread, processor time in the median, all sizes in turns.
Memory is the peak of the process while one call runs. The index repeats the rows of the given split.

One claim, exit code 1 where it fails: nothing grows faster than its size, by more than TOLERANCE from one size to the
next; a frame of a ten times longer index loads as fast.

    python benchmarks/scale.py data --version v1.0-mini --split mini_val --figure docs/results/scale.png
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from loading import repeat_index
from machine import machine
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from vexkd_model.bench.report import markdown
from vexkd_model.config import ModelConfig, load_config
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.data.loader import training_loader
from vexkd_model.data.sweeps import Sweep, accumulate_sweeps
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.decode import CenterDecoder
from vexkd_model.model import build_model
from vexkd_model.process import set_up_process
from vexkd_model.progress import progress
from vexkd_model.types import CameraImage, Frame

CONFIGS = Path(__file__).parents[1] / "config" / "model"
POINTS = {
    "lidar_pillar_small": (10_000, 30_000, 100_000, 300_000, 1_000_000),
    "lidar_voxel_small": (10_000, 30_000, 100_000, 300_000),
}
CAMERAS = (1, 2, 3, 6, 9, 12)
EXTENTS = (54.0, 76.5, 108.0, 153.0, 216.0)  # half the edge [m]: each has about twice the cells of the one before
DETECTIONS = (60, 120, 300, 600, 1200, 3000)
FRAMES = (28_000, 280_000)
MEGABYTE, TOLERANCE = 1e6, 1.25
LOADED = 40  # frames, of each index


class Measured(NamedTuple):
    """Median processor time [ms] and peak memory of the process [MB] at one size."""

    size: float
    ms: float
    peak_mb: float


class Scaling(NamedTuple):
    """Sizes of one kind of input, and the calls whose time is measured at each, by curve."""

    axis: str
    curves: Mapping[str, Mapping[float, Callable[[], object]]]


# --- Inputs and models of each size -----------------------------------------------------------------------------------


def points_scaling() -> Scaling:
    """Sweeps of N points each, in range and clustered as a LiDAR's: placed in base_link, and predicted from."""
    curves: dict[str, dict[float, Callable[[], object]]] = {}
    for name, counts in POINTS.items():
        predictor = predictor_of(load_config(CONFIGS / f"{name}.yaml"))
        for count in counts:
            sweeps = generated_sweeps(count, predictor.sweeps)
            frame = Frame(accumulate_sweeps(iter(sweeps)), 0)
            curves.setdefault(f"{name}: prediction", {})[count] = partial(predictor.predict, frame)
            if "pillar" in name:
                curves.setdefault("sweeps to base_link", {})[count] = lambda of=sweeps: accumulate_sweeps(iter(of))
    return Scaling("points a sweep", curves)


def generated_sweeps(points: int, count: int) -> list[Sweep]:
    """Sweeps whose points get sparser with the distance, 2 … 70 m, on and above the ground."""
    rng = np.random.default_rng(0)
    sweeps = []
    for age in range(count):
        distance, azimuth = np.exp(rng.uniform(np.log(2), np.log(70), points)), rng.uniform(-np.pi, np.pi, points)
        place = [distance * np.cos(azimuth), distance * np.sin(azimuth), rng.exponential(0.7, points) - 1.8]
        values = np.stack([*place, rng.uniform(0, 255, points)], axis=1).astype(np.float32)
        sweeps.append(Sweep(values, -age * 100_000_000, np.eye(4), np.eye(4)))
    return sweeps


def cameras_scaling() -> Scaling:
    """Rings of N cameras. The configuration's limit, nuScenes' six, is passed over."""
    curves: dict[str, dict[float, Callable[[], object]]] = {}
    for name in ("bevdet_small", "bevformer_small"):
        config = load_config(CONFIGS / f"{name}.yaml")
        assert config.camera is not None
        for count in CAMERAS:
            names = tuple(f"CAM_{i}" for i in range(count))
            images = config.camera.images.model_copy(update={"cameras": names})
            of_size = config.model_copy(update={"camera": config.camera.model_copy(update={"images": images})})
            frame = Frame(np.empty((0, 5), np.float32), 0, cameras=ring_of_cameras(of_size))
            curves.setdefault(name, {})[count] = partial(predictor_of(of_size).predict, frame)
    return Scaling("cameras", curves)


def ring_of_cameras(config: ModelConfig) -> tuple[CameraImage, ...]:
    assert config.camera is not None
    images, rng = config.camera.images, np.random.default_rng(0)
    focal = 0.8 * images.width
    intrinsics = np.array([[focal, 0, images.width / 2], [0, focal, images.height / 2], [0, 0, 1.0]])
    ring = []
    for i, name in enumerate(images.cameras):
        yaw = 2 * np.pi * i / len(images.cameras)
        base_from_camera = np.eye(4)
        base_from_camera[:3, :3] = [[np.sin(yaw), 0, np.cos(yaw)], [-np.cos(yaw), 0, np.sin(yaw)], [0, -1, 0]]
        base_from_camera[2, 3] = 1.5
        pixels = rng.integers(0, 256, (images.height, images.width, 3), np.uint8)
        ring.append(CameraImage(name, pixels, 0, intrinsics, np.eye(3), base_from_camera))
    return tuple(ring)


def range_scaling() -> Scaling:
    """Grids of another extent with cells of the same size; the size is the number of cells. The map stays ±50 m."""
    frame = Frame(accumulate_sweeps(iter(generated_sweeps(34_000, 5))), 0)
    curve: dict[float, Callable[[], object]] = {}
    for extent in EXTENTS:
        config = load_config(CONFIGS / "lidar_pillar_small.yaml", [f"grid={{extent: {extent}, cell: 0.9}}"])
        rows, columns = config.grid.grid().shape
        curve[rows * columns] = partial(predictor_of(config).predict, frame)
    return Scaling("cells of the grid", {"lidar_pillar_small": curve})


def detections_scaling() -> Scaling:
    """Heatmaps with N peaks a task's share, decoded and suppressed without the configuration's limits."""
    predictor = predictor_of(load_config(CONFIGS / "lidar_pillar_small.yaml"))
    decoder = predictor.decoder
    assert isinstance(decoder, CenterDecoder)
    tasks = len(decoder.class_ids)
    curve: dict[float, Callable[[], object]] = {}
    for count in DETECTIONS:
        unlimited = replace(decoder, candidates=count // tasks, max_detections=count, max_per_task=count)
        curve[count] = partial(unlimited, [maps_with_peaks(decoder, task, count // tasks) for task in range(tasks)])
    return Scaling("candidates for a detection", {"decoding and suppression": curve})


def maps_with_peaks(decoder: CenterDecoder, task: int, peaks: int) -> TaskMaps:
    """Maps of a task whose heatmap has `peaks` random cells above the threshold; boxes of 1 m, few of which meet."""
    rows, columns = decoder.grid.shape
    generator = torch.Generator().manual_seed(task)
    heatmap = torch.full((1, len(decoder.class_ids[task]), rows, columns), -9.0)
    cells = torch.randperm(rows * columns, generator=generator)[:peaks]
    heatmap[0, 0].view(-1)[cells] = torch.rand(peaks, generator=generator) * 3
    fields = [torch.rand(1, 2, rows, columns, generator=generator), torch.zeros(1, 1, rows, columns)]
    sizes = [torch.zeros(1, channels, rows, columns) for channels in (3, 2, 2)]
    return TaskMaps(heatmap, *fields, *sizes)


def predictor_of(config: ModelConfig) -> Predictor:
    torch.manual_seed(0)
    return Predictor(build_model(config), config, None, "cpu")


# --- Measurement ------------------------------------------------------------------------------------------------------


def measure(scaling: Scaling, rounds: int) -> dict[str, list[Measured]]:
    """Measure memory once a size, then time in turns."""
    calls = [(curve, size, call) for curve, sizes in scaling.curves.items() for size, call in sizes.items()]
    peaks = [peak_of(call) for _, _, call in calls]
    took: list[list[float]] = [[] for _ in calls]
    for _ in progress(range(rounds), scaling.axis, unit="rounds"):
        for times, (_, _, call) in zip(took, calls, strict=True):
            start = time.process_time()
            call()
            times.append((time.process_time() - start) * 1e3)
    measured: dict[str, list[Measured]] = {}
    for (curve, size, _), times, peak in zip(calls, took, peaks, strict=True):
        measured.setdefault(curve, []).append(Measured(size, median(times), peak))
    return measured


def peak_of(call: Callable[[], object]) -> float:
    """Peak of the process's memory while `call` runs [MB]."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is as high as what is held now
    call()
    return memory_mb("VmHWM")


def memory_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MEGABYTE for line in lines if line.startswith(key))


def measure_loading(index: FrameIndex) -> list[dict[str, float]]:
    """Load training frames of indexes of other lengths, in turns; every frame's own time, opened index included."""
    config = load_config(CONFIGS / "lidar_pillar_small.yaml", ["training.batch_size=1"])
    with tempfile.TemporaryDirectory() as folder:
        rows, batches = [], []
        for frames in FRAMES:
            long_index = repeat_index(index, Path(folder) / str(frames), frames)
            before, start = memory_mb("RssAnon"), time.process_time()
            batches.append(iter(training_loader(config, long_index, workers=0)))
            next(batches[-1])
            first = (time.process_time() - start) * 1e3
            balanced = config.model_copy(
                update={"training": config.training.model_copy(update={"class_balanced": True})}
            )
            start = time.process_time()
            next(iter(training_loader(balanced, long_index, workers=0).sampler))
            rows.append(
                {
                    "frames": frames,
                    "first_ms": first,
                    "balanced_ms": (time.process_time() - start) * 1e3,
                    "memory_mb": memory_mb("RssAnon") - before,
                }
            )
        took: list[list[float]] = [[] for _ in FRAMES]
        for _ in progress(range(LOADED), "frames in the index", unit="rounds"):
            for times, loader in zip(took, batches, strict=True):
                start = time.process_time()
                next(loader)
                times.append((time.process_time() - start) * 1e3)
    return [{**row, "ms": median(times)} for row, times in zip(rows, took, strict=True)]


# --- Report -----------------------------------------------------------------------------------------------------------


def growth(measured: list[Measured]) -> list[float]:
    """Growth of the time from each size to the next, in units of the size's own: above 1 is worse than linear."""
    return [after.ms / before.ms / (after.size / before.size) for before, after in itertools.pairwise(measured)]


def table(axis: str, curves: Mapping[str, list[Measured]]) -> str:
    """Rows of all curves; growth: see `growth`."""
    rows = [
        (name, f"{one.size:,.0f}", f"{one.ms:.1f}", f"{one.peak_mb:.0f}", step)
        for name, measured in curves.items()
        for one, step in zip(measured, ["", *(f"{step:.2f}" for step in growth(measured))], strict=True)
    ]
    return markdown(("", axis, "ms", "peak memory [MB]", "growth / size's"), rows, words=1)


def draw(panels: Mapping[str, Mapping[str, list[Measured]]], path: Path) -> None:
    """Draw time and memory of each axis, beside a line that is proportional to the size."""
    figure = Figure(figsize=(4 * len(panels), 6.4), layout="tight")
    axes = figure.subplots(2, len(panels), squeeze=False, sharex="col")
    for (axis, curves), (above, below) in zip(panels.items(), axes.T, strict=True):
        for name, measured in curves.items():
            sizes = [one.size for one in measured]
            (line,) = above.loglog(sizes, [one.ms for one in measured], "o-", label=name)
            last = measured[-1]
            linear = [last.ms * size / last.size for size in sizes]
            above.loglog(sizes, linear, ":", color=line.get_color(), linewidth=1)
            below.semilogx(sizes, [one.peak_mb for one in measured], "o-", color=line.get_color())
        below.set_xlabel(axis)
        below.set_ylim(0, 1.1 * max(one.peak_mb for measured in curves.values() for one in measured))
        above.legend(fontsize=7)
        for panel in (above, below):
            panel.grid(alpha=0.3, which="both")
            panel.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("processor time [ms]; dotted: linear")
    axes[1, 0].set_ylabel("peak memory of the process [MB]")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="prepared dataset, whose frames the long index repeats")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--rounds", type=int, default=5, help="of all sizes (default: 5)")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="plot to write")
    arguments = parser.parse_args()
    set_up_process()
    torch.set_num_threads(1)
    folder = index_folder(arguments.dataroot, arguments.version)
    index = FrameIndex.open(folder, arguments.split, arguments.dataroot, arguments.version)
    print(f"{machine()}; one thread, processor time, medians of {arguments.rounds} rounds\n")
    panels, holds = {}, True
    for make in (points_scaling, cameras_scaling, range_scaling, detections_scaling):
        scaling = make()
        panels[scaling.axis] = measure(scaling, arguments.rounds)
        print(f"{table(scaling.axis, panels[scaling.axis])}\n", flush=True)
        holds &= all(step <= TOLERANCE for curve in panels[scaling.axis].values() for step in growth(curve))
    rows = measure_loading(index)
    heads = ("frames in the index", "frames/s", "ms a frame", "first frame [ms]", "class-balanced order [ms]", "MB")
    keys = ("ms", "first_ms", "balanced_ms", "memory_mb")
    cells = [(f"{row['frames']:,}", f"{1e3 / row['ms']:.1f}", *(f"{row[key]:.1f}" for key in keys)) for row in rows]
    print(markdown(heads, cells, words=0))
    holds &= rows[-1]["ms"] <= TOLERANCE * rows[0]["ms"]
    if arguments.figure:
        draw(panels, arguments.figure)
        print(f"\n{arguments.figure}: written")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

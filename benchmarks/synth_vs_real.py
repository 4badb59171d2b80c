"""Synthetic LiDAR sweeps against one real nuScenes keyframe: points, ranges, rings, intensities and points a box.

The claim: beyond the own roof, a synthetic sweep has as many points as the real one within 20 %; exit code 1 where not.
The real keyframe is not part of the project, so neither is a picture made from it.

    python benchmarks/synth_vs_real.py --dataroot data --version v1.0-mini --out docs/results/synth_vs_real.md
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.data.splits import split_names
from vexkd_model.data.sweeps import EGO_HALF_SIZE_M
from vexkd_model.errors import UserError
from vexkd_model.figures.bev_axes import save_figure
from vexkd_model.files import atomic_file
from vexkd_model.geometry.transforms import apply
from vexkd_model.progress import progress
from vexkd_model.training.run import describe_data
from vexkd_model.types import DETECTION_CLASSES

KEYFRAME = Path(__file__).resolve().parents[2] / "shared" / "nuscenes_keyframe"
TOLERANCE = 0.2
RANGE_EDGES_M = (0, 5, 10, 15, 20, 30, 40, 50, 70, 105)
BOX_EDGES_M = (0, 10, 20, 30, 40, 55)
RING_GROUPS = tuple(range(0, 33, 4))
QUANTILES = (1, 5, 25, 50, 75, 95, 99)
REAL, SYNTHETIC = "#20262e", "#1f77dc"


@dataclass(frozen=True)
class Sweeps:
    """Keyframe sweeps of a dataset and their annotations.

    points: float32 (N, 5) a sweep in the sensor frame: x, y, z [m], intensity, ring; those on the own roof left out.
    in_all: points a sweep with the own roof. base: (N, 3) the first sweep's points in base_link [m].
    labels, distance [m, from base_link], hits: of all boxes of all sweeps: class, and the annotation's LiDAR points.
    """

    points: list[np.ndarray]
    in_all: list[int]
    base: np.ndarray
    labels: np.ndarray
    distance: np.ndarray
    hits: np.ndarray

    def per_sweep(self, figure) -> np.ndarray:
        """Apply `figure` to every sweep's points: (S, …)."""
        return np.array([figure(points) for points in self.points], np.float64)


def read_sweeps(index: FrameIndex, most: int) -> Sweeps:
    """Read up to `most` keyframes, evenly spread over the split."""
    chosen = np.unique(np.linspace(0, len(index) - 1, most).round().astype(int))
    points, in_all, labels, distance, hits = [], [], [], [], []
    base = np.empty((0, 3))
    for i in progress(chosen, f"read {index.split}", unit="sweeps"):
        record = index[int(i)]
        sweep = np.fromfile(record.sweeps[0].path, np.float32).reshape(-1, 5)  # with the ring, which no student reads
        beyond = sweep[(np.abs(sweep[:, :2]) >= EGO_HALF_SIZE_M).any(axis=1)]
        if not points:
            base = apply(record.sweeps[0].base_from_sensor, beyond[:, :3])
        points.append(beyond)
        in_all.append(len(sweep))
        labels.append(record.boxes.labels)
        distance.append(np.hypot(*record.boxes.values[:, :2].T))
        hits.append(record.lidar_points)
    return Sweeps(points, in_all, base, *map(np.concatenate, (labels, distance, hits)))


def read_keyframe(dataroot: Path) -> Sweeps:
    """Read the real keyframe through a temporary index."""
    from vexkd_model.data.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        prepare(dataroot, "v1.0-mini", Path(folder))
        return read_sweeps(FrameIndex.open(Path(folder), "mini_train"), 1)


def ranges(points: np.ndarray) -> np.ndarray:
    """Distances (N,) from the sensor [m]."""
    return np.linalg.norm(points[:, :3], axis=1)


def figures(sweeps: Sweeps) -> dict[str, np.ndarray]:
    """Compute figures by name, each with its values (S,) in all sweeps."""
    histogram = sweeps.per_sweep(lambda points: np.histogram(ranges(points), RANGE_EDGES_M)[0])
    rings = sweeps.per_sweep(lambda points: np.histogram(points[:, 4], RING_GROUPS)[0])
    quantiles = sweeps.per_sweep(lambda points: np.percentile(points[:, 3], QUANTILES))
    return {
        "points": np.array(sweeps.in_all, np.float64),
        "points beyond the own roof": sweeps.per_sweep(len),
        **{f"range {a}–{b} m": histogram[:, i] for i, (a, b) in enumerate(pairs(RANGE_EDGES_M))},
        **{f"rings {a}–{b - 1}": rings[:, i] for i, (a, b) in enumerate(pairs(RING_GROUPS))},
        **{f"intensity, {q} % below": quantiles[:, i] for i, q in enumerate(QUANTILES)},
    }


def pairs(edges: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(pairwise(edges))


def per_sweep_table(real: Sweeps, synthetic: Sweeps) -> str:
    lines = [
        "| in one sweep | real | synthetic, mean | 10 … 90 % of sweeps | synthetic / real |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    ours = figures(synthetic)
    for name, (value,) in figures(real).items():
        low, high = np.percentile(ours[name], [10, 90])
        ratio = f"{ours[name].mean() / value:.2f}" if value else "–"
        lines.append(f"| {name} | {value:,.0f} | {ours[name].mean():,.0f} | {low:,.0f} … {high:,.0f} | {ratio} |")
    return "\n".join(lines)


def per_box_table(real: Sweeps, synthetic: Sweeps) -> str:
    bands = pairs(BOX_EDGES_M)
    lines = [
        "| points a box, median | " + " | ".join(f"{a}–{b} m" for a, b in bands) + " |",
        "| --- |" + " ---: |" * len(bands),
    ]
    for label, name in enumerate(DETECTION_CLASSES):
        cells = [f"{median_hits(real, label, *band)} / {median_hits(synthetic, label, *band)}" for band in bands]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def median_hits(sweeps: Sweeps, label: int, nearest: float, farthest: float) -> str:
    """Format the median of the boxes that hold a point, and their number in brackets."""
    chosen = (sweeps.labels == label) & (sweeps.distance >= nearest) & (sweeps.distance < farthest) & (sweeps.hits > 0)
    return f"{np.median(sweeps.hits[chosen]):.0f} ({chosen.sum()})" if chosen.any() else "–"


def report(real: Sweeps, synthetic: Sweeps, source: str, command: str) -> tuple[str, bool]:
    """Write the page in Markdown; also return whether the claim holds."""
    ratio = synthetic.per_sweep(len).mean() / len(real.points[0])
    holds = abs(ratio - 1) <= TOLERANCE
    verdict = (
        f"Beyond the own roof (|x| or |y| of at least {EGO_HALF_SIZE_M:g} m from the sensor) a synthetic sweep "
        f"has {ratio:.2f} × the points of the real one: {'within' if holds else 'NOT within'} {TOLERANCE:.0%}.\n"
        "Nearer, a real LiDAR reports its own roof and rays that returned nothing; of older sweeps they are "
        "dropped."
    )
    return "\n\n".join(
        [
            "# Synthetic against real: one LiDAR sweep",
            f"Real: the one keyframe at hand (nuScenes, scene-0061). Synthetic: {len(synthetic.points)} keyframes of "
            f"{source}.\nOne real sweep is one street: read the ratios as orders of magnitude, not as a fit.",
            verdict,
            per_sweep_table(real, synthetic),
            "Real / synthetic, of boxes that hold at least one point; their number in brackets; range from base_link.",
            per_box_table(real, synthetic),
            f"Made by `{command}`.",
        ]
    ) + "\n", holds


def draw(path: Path, real: Sweeps, synthetic: Sweeps) -> None:
    """Draw a PNG: both sweeps from above, and the distributions of the tables."""
    figure = Figure(figsize=(13, 8.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["real", "synthetic", "range"], ["ring", "intensity", "box"]])
    for name, sweeps in (("real", real), ("synthetic", synthetic)):
        axes = panels[name]
        axes.scatter(*sweeps.base[:, :2].T, s=0.5, c=sweeps.base[:, 2], cmap="viridis", vmin=-0.5, vmax=4, linewidths=0)
        axes.set(
            xlim=(-50, 50),
            ylim=(-50, 50),
            aspect="equal",
            xlabel="x forward [m]",
            ylabel="y left [m]",
            title=f"{name}: {len(sweeps.base):,} points beyond the own roof",
        )
    bins = np.geomspace(1, 105, 40)
    draw_profile(panels["range"], real, synthetic, bins, lambda points: np.histogram(ranges(points), bins)[0])
    panels["range"].set(xscale="log", xlabel="range [m]", ylabel="points", title="points by range")
    bins = np.arange(33) - 0.5
    draw_profile(panels["ring"], real, synthetic, bins, lambda points: np.histogram(points[:, 4], bins)[0])
    panels["ring"].set(xlabel="ring, 0 looks down most", ylabel="points", title="points by ring")
    bins = np.arange(0, 257, 2)
    draw_profile(
        panels["intensity"],
        real,
        synthetic,
        bins,
        lambda points: np.histogram(points[:, 3], bins)[0].cumsum() / len(points),
    )
    panels["intensity"].set(xlim=(0, 130), xlabel="intensity", ylabel="share below", title="intensity, cumulated")
    axes = panels["box"]
    for sweeps, colour, size, name in ((synthetic, SYNTHETIC, 3, "synthetic"), (real, REAL, 16, "real")):
        hit = sweeps.hits > 0
        axes.scatter(sweeps.distance[hit], sweeps.hits[hit], s=size, color=colour, label=name, linewidths=0)
    axes.set(yscale="log", xlim=(0, 60), xlabel="distance of the box [m]", ylabel="points", title="points a box")
    axes.legend(frameon=False)
    save_figure(figure, path)


def draw_profile(axes: Axes, real: Sweeps, synthetic: Sweeps, bins: np.ndarray, figure) -> None:
    """Draw `figure` over bins: the real sweep as a line, the synthetic sweeps as mean and 10 … 90 % band."""
    profile = synthetic.per_sweep(figure)
    low, high = np.percentile(profile, [10, 90], axis=0)
    axes.stairs(high, bins, baseline=low, fill=True, color=SYNTHETIC, alpha=0.25, label="synthetic, 10 … 90 %")
    axes.stairs(profile.mean(axis=0), bins, color=SYNTHETIC, label="synthetic, mean")
    axes.stairs(real.per_sweep(figure)[0], bins, color=REAL, label="real")
    axes.legend(frameon=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataroot", type=Path, required=True, help="prepared synthetic dataset")
    parser.add_argument("--version", required=True, help="v1.0-mini or v1.0-trainval")
    parser.add_argument("--split", help="official split (default: mini_val or val)")
    parser.add_argument("--index", type=Path, help="folder of the frame index (default: DATAROOT/vexkd/VERSION)")
    parser.add_argument(
        "--real", type=Path, default=KEYFRAME, metavar="DIR", help=f"real keyframe (default: {KEYFRAME})"
    )
    parser.add_argument("--sweeps", type=int, default=40, help="synthetic keyframes to look at (default: 40)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the tables there, too")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="draw, too; shows real data, so it is never to be committed"
    )
    arguments = parser.parse_args()
    split = arguments.split or split_names(arguments.dataroot, arguments.version)[-1]
    try:
        folder = arguments.index or index_folder(arguments.dataroot, arguments.version)
        index = FrameIndex.open(folder, split, arguments.dataroot, arguments.version)
        synthetic, real = read_sweeps(index, arguments.sweeps), read_keyframe(arguments.real)
    except UserError as error:
        sys.exit(f"error: {error}")
    data = ", ".join(f"{key} {value}" for key, value in describe_data(index).items())
    page, holds = report(real, synthetic, data, " ".join(["python", *sys.argv]))
    print(page)
    if arguments.out:
        with atomic_file(arguments.out) as partial:
            partial.write_text(page)
    if arguments.figure:
        draw(arguments.figure, real, synthetic)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

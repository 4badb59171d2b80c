"""Which classes a LiDAR alone and a camera alone take for one another, on the synthetic world.

Two small classifiers of the ten detection classes see the same annotated objects, one as LiDAR points and one as pixels
(`class_crops.py`), learn for the same number of steps from the same draws, every class equally often, and are asked
about objects of the val scenes. The claim behind it: sensors complement each other, so each of them tells some pairs
of classes apart that the other one does not, and at night it is the LiDAR. docs/results/class_confusion.md holds the
tables that this prints.

    python benchmarks/class_confusion.py data --version v1.0-trainval --figure docs/results/class_confusion.png
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch
from class_crops import Objects, choose, crop_objects, light_of_scenes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nuscenes.eval.common.config import config_factory
from torch import Tensor, nn

from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.data.tables import open_nuscenes
from vexkd_model.errors import UserError
from vexkd_model.figures.bev_axes import INK, save_png
from vexkd_model.progress import progress
from vexkd_model.synth.weather import LIGHTS
from vexkd_model.types import DETECTION_CLASSES

EVERY = 2  # keyframes; those of one scene show the same objects half a second later
MOST_TRAIN, MOST_VAL = 1500, 750  # objects of a class
BATCH, RATE, DECAY = 100, 3e-3, 0.02
SEEN_POINTS = 256  # of those of a crop, drawn anew at every training step
DISTANCES_M = (0, 15, 30, 55)
SCENE_DRAWS = 200
SHOWN_PAIRS = 6
LIDAR, CAMERA, BOTH = "LiDAR", "camera", "both, probabilities multiplied"
NAMES = [name.replace("_", " ") for name in DETECTION_CLASSES]
PAIRS = list(itertools.combinations(range(len(NAMES)), 2))


class PointClassifier(nn.Module):
    """A PointNet (Qi et al., 2017) without its learned rotations: (B, P, 5) of `Objects.points` → (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Sequential(*_dense(5, 64), *_dense(64, 64), *_dense(64, 256))
        self.all = nn.Sequential(*_dense(512, 128), nn.Dropout(0.3), nn.Linear(128, len(NAMES)))

    def forward(self, points: Tensor) -> Tensor:
        order = torch.randperm(points.shape[1]) if self.training else torch.arange(points.shape[1])
        points = points[:, order[:SEEN_POINTS]] / torch.tensor([2.0, 2.0, 2.0, 64.0, 0.25])
        features = self.each(points.flatten(0, 1)).unflatten(0, points.shape[:2])
        return self.all(torch.cat([features.amax(dim=1), features.mean(dim=1)], dim=1))

    @staticmethod
    def mirror(points: Tensor) -> Tensor:
        return points * torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0])


class ImageClassifier(nn.Module):
    """Four convolutions: (B, P, P, 3) of `Objects.images` → (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.local = nn.Sequential(*_convolution(3, 24), *_convolution(24, 48), *_convolution(48, 96),
                                   *_convolution(96, 128))  # fmt: skip
        self.all = nn.Sequential(nn.Flatten(), *_dense(128 * 36, 128), nn.Dropout(0.3), nn.Linear(128, len(NAMES)))

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float() / 128 - 1
        return self.all(self.local(pixels))

    @staticmethod
    def mirror(images: Tensor) -> Tensor:
        return images.flip(2)


def _dense(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """Half as many rows and columns."""
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


# What each classifier is, and what of an object it is shown.
CLASSIFIERS = {LIDAR: (PointClassifier, "points"), CAMERA: (ImageClassifier, "images")}


def train(name: str, objects: Objects, steps: int, seed: int) -> nn.Module:
    """Learn from `objects`: every classifier draws the same ones in the same order, each class equally often."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    build, seen = CLASSIFIERS[name]
    model, inputs = build().train(), torch.from_numpy(getattr(objects, seen))
    of_class = [np.flatnonzero(objects.labels == label) for label in np.unique(objects.labels)]
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in progress(range(steps), f"train {name}", unit="steps"):
        drawn = np.concatenate([rng.choice(rows, BATCH // len(of_class)) for rows in of_class])
        mirrored = torch.from_numpy(rng.random(len(drawn)) < 0.5).reshape(-1, *[1] * (inputs.dim() - 1))
        batch = torch.where(mirrored, model.mirror(inputs[drawn]), inputs[drawn])
        loss = nn.functional.cross_entropy(model(batch), torch.from_numpy(objects.labels[drawn]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model


@torch.no_grad()
def log_probabilities(model: nn.Module, name: str, objects: Objects) -> np.ndarray:
    """(N, 10)."""
    inputs = torch.from_numpy(getattr(objects, CLASSIFIERS[name][1]))
    return torch.cat([model.eval()(part).log_softmax(dim=1) for part in inputs.split(500)]).numpy()


def confusion(labels: np.ndarray, said: np.ndarray) -> np.ndarray:
    """(10, 10): the share of each true class (row) that is called each class (column); NaN rows of absent classes."""
    counts = np.zeros((len(NAMES), len(NAMES)))
    np.add.at(counts, (labels, said), 1)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def balanced_accuracy(labels: np.ndarray, said: np.ndarray) -> float:
    """Mean over the classes of the share that is called right."""
    return float(np.nanmean(np.diag(confusion(labels, said))))


def standard_error(objects: Objects, said: np.ndarray, rows: np.ndarray) -> float:
    """Of the balanced accuracy over `rows`, by bootstrap over scenes, because one scene's objects are alike."""
    rng, scenes = np.random.default_rng(0), np.unique(objects.scenes[rows])
    of_scene = [rows[objects.scenes[rows] == scene] for scene in scenes]
    draws = []
    for _ in range(SCENE_DRAWS):
        drawn = np.concatenate([of_scene[k] for k in rng.integers(len(scenes), size=len(scenes))])
        draws.append(balanced_accuracy(objects.labels[drawn], said[drawn]))
    return float(np.std(draws))


def pair_error(labels: np.ndarray, scores: np.ndarray, a: int, b: int) -> float:
    """How often the wrong one is said where an object is a or b, both equally often, and only these two may be said.

    0 … 0.5, where 0.5 is a guess. Unlike an entry of the confusion matrix it does not shrink where a third class is
    said most of the time.
    """
    prefers_a = scores[:, a] > scores[:, b]
    return float((1 - prefers_a[labels == a].mean() + prefers_a[labels == b].mean()) / 2)


def scores_table(val: Objects, scores: dict[str, np.ndarray]) -> str:
    """Balanced accuracy [%] by light and by distance, with standard errors."""
    groups = {"all": np.arange(len(val))}
    groups.update({light: np.flatnonzero(val.lights == light) for light in LIGHTS})
    groups.update({f"{a}–{b} m": np.flatnonzero((val.distance >= a) & (val.distance < b))
                   for a, b in itertools.pairwise(DISTANCES_M)})  # fmt: skip
    lines = ["| balanced accuracy, % | objects | scenes | " + " | ".join(scores) + " |",
             "| --- | ---: | ---: |" + " ---: |" * len(scores)]  # fmt: skip
    for name, rows in groups.items():
        if not len(rows):
            continue
        cells = [f"{100 * balanced_accuracy(val.labels[rows], said[rows]):.1f} ± "
                 f"{100 * standard_error(val, said, rows):.1f}" for said in (s.argmax(axis=1) for s in scores.values())]
        lines.append(f"| {name} | {len(rows):,} | {len(np.unique(val.scenes[rows]))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pairs_tables(val: Objects, scores: dict[str, np.ndarray]) -> str:
    """The pairs that each sensor confuses most, and those at which one of them is ahead most."""
    errors = {name: np.array([pair_error(val.labels, scores[name], a, b) for a, b in PAIRS])
              for name in (LIDAR, CAMERA)}  # fmt: skip
    ahead = errors[CAMERA] - errors[LIDAR]
    order = {"confused most by the LiDAR": -errors[LIDAR], "confused most by the camera": -errors[CAMERA],
             "told apart better by the LiDAR": -ahead, "told apart better by the camera": ahead}  # fmt: skip
    parts = []
    for title, key in order.items():
        lines = [f"| {title} | LiDAR, % wrong | camera, % wrong |", "| --- | ---: | ---: |"]
        for k in np.argsort(key, kind="stable")[:SHOWN_PAIRS]:
            if title.startswith("told") and key[k] >= 0:
                continue  # the other sensor is ahead
            lines.append(f"| {NAMES[PAIRS[k][0]]} – {NAMES[PAIRS[k][1]]} | {100 * errors[LIDAR][k]:.1f} | "
                         f"{100 * errors[CAMERA][k]:.1f} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def draw(path: Path, val: Objects, scores: dict[str, np.ndarray]) -> None:
    """A PNG: the confusion matrices of the two sensors side by side, in per cent of the true class."""
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, 2, sharey=True), (LIDAR, CAMERA), strict=True):
        said = scores[name].argmax(axis=1)
        share = 100 * np.nan_to_num(confusion(val.labels, said))
        axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share.round().astype(int)):
            if value:
                axes.text(column, row, value, ha="center", va="center", color="white" if value > 55 else INK)
        axes.grid(False)  # which the devkit's import turns on
        axes.set_xticks(range(len(NAMES)), NAMES, rotation=45, ha="right")
        axes.set_yticks(range(len(NAMES)), NAMES)
        axes.set(xlabel="called", title=f"{name}: {100 * balanced_accuracy(val.labels, said):.1f} % balanced accuracy")
    figure.axes[0].set_ylabel("truly")
    figure.suptitle("What one sensor alone calls the objects of synthetic val scenes, % of each true class", color=INK)
    save_png(figure, path)


def read_objects(dataroot: Path, version: str, seed: int) -> dict[str, Objects]:
    """Crops of the train and the val split."""
    nusc, objects = open_nuscenes(dataroot, version), {}
    ranges_m = config_factory("detection_cvpr_2019").class_range
    for split, most in (("train", MOST_TRAIN), ("val", MOST_VAL)):
        index = FrameIndex.open(index_folder(dataroot, version), split, dataroot, version)
        rng = np.random.default_rng(seed)
        places = choose(index, nusc, ranges_m, EVERY, most, rng)
        objects[split] = crop_objects(index, places, light_of_scenes(nusc), rng)
    return objects


def report(objects: dict[str, Objects], scores: dict[str, np.ndarray], facts: str) -> str:
    counts = ["| objects | " + " | ".join(NAMES) + " |", "| --- |" + " ---: |" * len(NAMES)]
    for split, some in objects.items():
        counts.append(f"| {split} | " + " | ".join(map(str, np.bincount(some.labels, minlength=len(NAMES)))) + " |")
    return "\n\n".join([facts, scores_table(objects["val"], scores), pairs_tables(objects["val"], scores),
                        "\n".join(counts)])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="prepared synthetic dataset with train and val scenes")
    parser.add_argument("--version", required=True, help="v1.0-trainval")
    parser.add_argument("--steps", type=int, default=400, help=f"of {BATCH} objects (default: 400)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the confusion matrices, too")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        objects = read_objects(arguments.dataroot, arguments.version, arguments.seed)
    except UserError as error:
        sys.exit(f"error: {error}")
    scores = {}
    for name in CLASSIFIERS:
        model = train(name, objects["train"], arguments.steps, arguments.seed)
        scores[name] = log_probabilities(model, name, objects["val"])
    scores[BOTH] = scores[LIDAR] + scores[CAMERA]
    facts = (f"Made by `{' '.join(['python', *sys.argv])}` in {time.monotonic() - start:.0f} s: "
             f"{arguments.steps} steps of {BATCH} objects, each class equally often.")
    print(report(objects, scores, facts))
    if arguments.figure:
        draw(arguments.figure, objects["val"], scores)


if __name__ == "__main__":
    main()

"""Speed of the PyTorch sparse convolution beside spconv's layers, in the paper-size voxel encoder on real points.

The first keyframe of the nuScenes folder DATAROOT stands for ten sweeps on a straight drive. One encoder of 0.075 m
voxels computes it with the layers of `sparse_conv_torch` and, with the same weights, with spconv's SubMConv3d and
SparseConv3d: forward as in inference, and forward and backward as in training, in turns. Voxels, batch norms and the
dense map are the same code in both, and count in both. On more than one thread spconv's CPU build (2.3.8) gets a few
rows wrong, which costs it no time.

One claim, exit code 1 where it fails: neither takes PyTorch more than three times as long as spconv.

    python benchmarks/sparse_conv.py ../shared/nuscenes_keyframe
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from loading import repeat_keyframe
from machine import machine
from spconv.pytorch import SparseConv3d as SpconvSparse
from spconv.pytorch import SparseConvTensor, ops
from spconv.pytorch import SubMConv3d as SpconvSubmanifold
from torch import Tensor, nn

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.files import write_json
from vexkd_model.lidar.sparse_conv import SparseConv3d, SparseMap, SubmanifoldConv3d
from vexkd_model.lidar.sparse_encoder import VoxelEncoder
from vexkd_model.process import set_up_process
from vexkd_model.progress import progress
from vexkd_model.types import BevGrid

SWEEPS, RATIO = 10, 3.0
GRID, VOXEL, VOXEL_Z, Z_MIN, Z_MAX = BevGrid(-54.0, 54.0, -54.0, 54.0, 0.6), 0.075, 0.2, -5.0, 3.0


class Spconv(nn.Module):
    """Layer of spconv with the interface and weights of one of ours: SparseMap → SparseMap."""

    def __init__(self, ours: SubmanifoldConv3d | SparseConv3d) -> None:
        super().__init__()
        out_channels, *kernel, in_channels = ours.weight.shape
        self.submanifold = isinstance(ours, SubmanifoldConv3d)
        if self.submanifold:
            self.layer = SpconvSubmanifold(in_channels, out_channels, kernel, bias=False, indice_key="submanifold")
        else:
            stride, padding = cast(Any, ours.stride), cast(Any, ours.padding)  # a number an axis, as spconv takes, too
            self.layer = SpconvSparse(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.layer.load_state_dict(ours.state_dict())

    def forward(self, x: SparseMap) -> SparseMap:
        known = x.rulebooks if self.submanifold else {}
        out = self.layer(
            SparseConvTensor(x.features, x.coordinates.int(), list(x.shape), x.batch_size, indice_dict=known)
        )
        if self.submanifold:
            known.update(out.indice_dict)
            return x.with_features(out.features)
        return SparseMap(out.features, out.indices.long(), tuple(out.spatial_shape), x.batch_size)


def with_spconv(encoder: VoxelEncoder) -> VoxelEncoder:
    """Copy an encoder with spconv's layers and the same weights."""
    encoder = deepcopy(encoder)
    for part in list(encoder.modules()):
        conv = getattr(part, "conv", None)
        if isinstance(conv, SubmanifoldConv3d | SparseConv3d):
            part.conv = Spconv(conv)
    return encoder


def ten_sweeps(dataroot: Path) -> Tensor:
    """Load ten sweeps, float32 (N, 5), in the order of POINT_FIELDS."""
    with tempfile.TemporaryDirectory() as folder:
        repeat_keyframe(dataroot, Path(folder) / "data", 2)
        prepare(Path(folder) / "data", "v1.0-mini", Path(folder) / "index", ["mini_train"])
        return torch.from_numpy(FrameIndex.open(Path(folder) / "index", "mini_train")[1].load_points(SWEEPS))


def infer(encoder: VoxelEncoder, points: Tensor) -> Tensor:
    encoder.eval()
    with torch.no_grad():
        return encoder(points, torch.zeros(len(points), dtype=torch.long), 1)


def train(encoder: VoxelEncoder, points: Tensor) -> None:
    encoder.train()
    encoder.zero_grad()
    encoder(points, torch.zeros(len(points), dtype=torch.long), 1).square().mean().backward()


def seconds(compute: Callable[[], object]) -> float:
    begin = time.perf_counter()
    compute()
    return time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="nuScenes folder, version v1.0-mini")
    parser.add_argument("--rounds", type=int, default=5, help="of each, of which the median counts (default: 5)")
    parser.add_argument("--threads", type=int, help="of PyTorch and spconv (default: as many as there are cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    set_up_process()
    measured_on = machine()
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    # Its backward pass on a CPU asks for a CUDA stream, uses none, and fails where PyTorch has none.
    ops.get_current_stream = lambda: 0
    torch.manual_seed(0)
    points = ten_sweeps(arguments.dataroot)
    ours = VoxelEncoder(GRID, VOXEL, VOXEL_Z, Z_MIN, Z_MAX, backend="torch")
    train(ours, points)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    encoders = {"PyTorch": ours, "spconv": with_spconv(ours)}
    taken = {(work, name): [] for work in (infer, train) for name in encoders}
    for _ in progress(range(arguments.rounds), "computing", unit="rounds"):
        for (work, name), times in taken.items():
            times.append(seconds(lambda work=work, name=name: work(encoders[name], points)))
    medians = {key: float(np.median(times)) for key, times in taken.items()}
    figures: dict[str, object] = {
        "machine": measured_on,
        "threads": torch.get_num_threads(),
        "points": len(points),
        "voxels": len(ours.voxels(points, torch.zeros(len(points), dtype=torch.long))[0]),
        "GiB at most, PyTorch, training": round(peak, 2),
    }
    ratios = {}
    for work, label in ((infer, "forward"), (train, "forward and backward")):
        ratios[label] = medians[work, "PyTorch"] / medians[work, "spconv"]
        figures[label] = {
            **{name: f"{medians[work, name]:.2f} s" for name in encoders},
            "ratio": round(ratios[label], 2),
        }
    for key, value in figures.items():
        print(f"{key:32} {value}")
    if arguments.json:
        write_json(arguments.json, figures)
    return 0 if max(ratios.values()) <= RATIO else 1


if __name__ == "__main__":
    sys.exit(main())

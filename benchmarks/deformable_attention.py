"""Time of deformable attention's sampling against that of transformers in PyTorch, forward alone and with backward.

On a CPU, one thread, 180×180 cells as queries and as map, 8 heads of 32 channels, 4 points; processor time,
alternating. Claims, exit code 1 where one fails: at least twice as fast; the difference of results, and of each
gradient, has at most 1 % of their length. Where rounding moves a point into the next cell, its gradient jumps.

    python benchmarks/deformable_attention.py
"""

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from machine import machine
from torch import Tensor
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from vexkd_model.bev.deformable_attention import cell_centres
from vexkd_model.bev.head_sampling import sample_heads

SIZE, HEADS, POINTS = 180, 8, 4
OFFSET_STD = 2.0  # of a sampling point [cells]
LEAST_RATIO, TOLERANCE = 2.0, 0.01


def inputs(channels: int) -> list[Tensor]:
    """Draw values (1, Y · X, heads, C), positions (1, Q, heads, points, 2) as shares of the map, and weights."""
    torch.manual_seed(0)
    value = torch.randn(1, SIZE * SIZE, HEADS, channels)
    offsets = OFFSET_STD / SIZE * torch.randn(1, SIZE * SIZE, HEADS, POINTS, 2)
    weights = torch.randn(1, SIZE * SIZE, HEADS, POINTS).softmax(dim=3)
    positions = cell_centres(SIZE, SIZE)[:, :, :, None] + offsets
    return [part.requires_grad_() for part in (value, positions, weights)]


def ours(value: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """Sample by this package, (1, Q, heads · C)."""
    maps = value.unflatten(1, (SIZE, SIZE)).permute(0, 3, 4, 1, 2)
    cells = positions.transpose(1, 2) * SIZE
    return sample_heads(maps, cells, weights.transpose(1, 2)).flatten(1, 2).transpose(1, 2)


def theirs(value: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """Sample by transformers, (1, Q, heads · C)."""
    shape = torch.tensor([[SIZE, SIZE]])
    sizes, start = [(SIZE, SIZE)], torch.zeros(1)
    return MultiScaleDeformableAttention()(
        value, shape, sizes, start, positions[:, :, :, None], weights[:, :, :, None], 64
    )


def seconds(
    run: Callable[[Callable[..., Tensor], list[Tensor]], object], sample: Callable[..., Tensor], parts: list[Tensor]
) -> float:
    """Measure a run in processor time [s]."""
    start = time.process_time()
    run(sample, parts)
    return time.process_time() - start


def with_gradients(sample: Callable[..., Tensor], parts: list[Tensor]) -> list[Tensor]:
    """Compute the result and its gradients to all inputs."""
    out = sample(*parts)
    return [out.detach(), *torch.autograd.grad(out, parts, torch.ones_like(out))]


def forward(sample: Callable[..., Tensor], parts: list[Tensor]) -> Tensor:
    """Compute the result alone."""
    with torch.no_grad():
        return sample(*parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[32], help="of a head (default: 32)")
    parser.add_argument("--repeats", type=int, default=7, help="that are measured, after a first (default: 7)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, one thread\n")
    print("| channels of a head | | transformers [ms] | ours [ms] | times as fast | difference |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    holds = True
    for channels in arguments.channels:
        parts = inputs(channels)
        pairs = zip(with_gradients(ours, parts), with_gradients(theirs, parts), strict=True)
        difference = max(float((our - their).norm() / their.norm()) for our, their in pairs)
        for name, run in (("forward", forward), ("and backward", with_gradients)):
            times = [(seconds(run, theirs, parts), seconds(run, ours, parts)) for _ in range(arguments.repeats + 1)][1:]
            their, our = (median(side) for side in zip(*times, strict=True))
            ratio = median(their / our for their, our in times)
            holds &= ratio >= LEAST_RATIO and difference <= TOLERANCE
            print(f"| {channels} | {name} | {their * 1e3:.0f} | {our * 1e3:.0f} | {ratio:.1f} | {difference:.0e} |")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

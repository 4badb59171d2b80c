"""Sparse 3D convolution in plain PyTorch: find the pairs of rows, then gather, multiply, add.

For CPUs, for machines without spconv, and for `torch.export`. Source: Graham, Engelcke and van der Maaten, "3D Semantic
Segmentation with Submanifold Sparse Convolutional Networks" (CVPR 2018): a rulebook lists, for every offset of the
kernel, which input row meets which output row. There is no dense grid: a voxel is found by a binary search for its
number. Offsets count z slowest and x fastest, as in weights (out, kz, ky, kx, in).
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vexkd_model.lidar.voxels import Triple, voxel_coordinates, voxel_number

Pairs = list[tuple[Tensor, Tensor] | None]


@dataclass(frozen=True)
class Rulebook:
    """Rulebook of a sparse convolution: which input row meets which output row, for each offset of the kernel.

    coordinates: int64 (V_out, 4) sample, z, y, x of the output's rows. shape: (Z, Y, X) of the output.
    pairs: for each offset of the kernel, int64 (P,) rows of the input and (P,) rows of the output, among which no row
    comes twice; None for the offset at which every row meets itself.
    """

    coordinates: Tensor
    shape: Triple
    pairs: Pairs


def submanifold_rulebook(coordinates: Tensor, shape: Triple, kernel: Triple) -> Rulebook:
    """Make the rulebook of a submanifold convolution: stride 1, an odd kernel, output on the input's voxels.

    coordinates: int64 (V, 4) sample, z, y, x, distinct, in any order.
    """
    reach = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    first = coordinates - coordinates.new_tensor([0, *reach])
    # Whoever meets at an offset meets at the opposite one with exchanged parts: half of the search is enough.
    half = list(itertools.islice(_find(coordinates, shape, first, kernel, reach), math.prod(kernel) // 2))
    return Rulebook(coordinates, shape, [*half, None, *((outs, ins) for ins, outs in reversed(half))])


def strided_rulebook(coordinates: Tensor, shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Rulebook:
    """Make the rulebook of a convolution whose output has every voxel whose kernel meets one of the input's.

    coordinates: int64 (V, 4) sample, z, y, x. The output's ascend in the same order.
    """
    out_shape = strided_shape(shape, kernel, stride, padding)
    out = _reached(coordinates, out_shape, kernel, stride, padding)
    first = out * out.new_tensor([1, *stride]) - out.new_tensor([0, *padding])
    return Rulebook(out, out_shape, list(_find(coordinates, shape, first, kernel, padding)))


def strided_shape(shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Triple:
    """Shape (Z, Y, X) of the output, as of a dense convolution."""
    z, y, x = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, kernel, stride, padding, strict=True))
    return z, y, x


def _reached(coordinates: Tensor, out_shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Tensor:
    """Find the output's voxels o, int64 (V_out, 4), whose kernel o · stride − padding … + kernel − 1 meets an input.

    They ascend in sample, z, y, x.
    """
    sample, *axes = coordinates.unbind(1)
    choices = []  # along each axis: candidates, and for which voxels of the input they hold
    for i, n, k, s, p in zip(axes, out_shape, kernel, stride, padding, strict=True):
        last = torch.div(i + p, s, rounding_mode="floor")
        candidates = [last - back for back in range(math.ceil(k / s))]
        choices.append([(o, (o >= 0) & (o < n) & (i + p - o * s < k)) for o in candidates])
    numbers = [
        voxel_number(sample, z, y, x, out_shape)[z_holds & y_holds & x_holds]
        for (z, z_holds), (y, y_holds), (x, x_holds) in itertools.product(*choices)
    ]
    return voxel_coordinates(torch.unique(torch.cat(numbers)), out_shape)


def _find(
    coordinates: Tensor, shape: Triple, first: Tensor, kernel: Triple, margin: Triple
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each offset of the kernel, the rows of `coordinates` and the rows of `first` that meet there.

    first: int64 (V_out, 4), the voxel under the kernel's first offset, at most `margin` outside of the grid.
    """
    # Numbers in a grid so much wider that no step leaves its line, its layer or its sample for another one.
    layers, rows, columns = (n + 2 * m + k for n, m, k in zip(shape, margin, kernel, strict=True))
    inward = coordinates.new_tensor([0, *margin])

    def number(voxels: Tensor) -> Tensor:
        sample, z, y, x = (voxels + inward).unbind(1)
        return voxel_number(sample, z, y, x, (layers, rows, columns))

    numbers, order = torch.sort(number(coordinates))
    numbers = torch.cat([numbers, numbers.new_full((1,), torch.iinfo(torch.int64).max)])  # what a search past all finds
    start = number(first)
    for step_z, step_y in itertools.product(range(kernel[0]), range(kernel[1])):
        wanted = start + (step_z * rows + step_y) * columns
        at = torch.searchsorted(numbers, wanted)
        for _ in range(kernel[2]):
            meets = numbers[at] == wanted
            theirs = torch.nonzero(meets).squeeze(1)
            yield order[at[theirs]], theirs
            at, wanted = at + meets, wanted + 1  # the next along x, if there, is the next in order


def convolve(features: Tensor, weight: Tensor, rulebook: Rulebook) -> Tensor:
    """Convolve features (V, in) with weights (out, kz, ky, kx, in) → (V_out, out), float32."""
    if torch.compiler.is_exporting():
        return _forward(features, weight, rulebook.pairs, rulebook.coordinates.shape[0])
    return _PairConvolution.apply(features, weight, rulebook.pairs, rulebook.coordinates.shape[0])


class _PairConvolution(Function):
    """Convolution that gathers once more in the backward pass, instead of keeping the rows gathered for each offset."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, pairs: Pairs, rows: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        return _forward(features, weight, pairs, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, weight = ctx.saved_tensors
        return *gradients(features, weight, ctx.pairs, grad), None, None


def _forward(features: Tensor, weight: Tensor, pairs: Pairs, rows: int) -> Tensor:
    out = features.new_zeros(rows, weight.shape[0])
    for matrix, pair in zip(_matrices(weight), pairs, strict=True):
        if pair is None:
            out += features @ matrix
        else:
            out.index_add_(0, pair[1], features.index_select(0, pair[0]) @ matrix)
    return out


def gradients(features: Tensor, weight: Tensor, pairs: Pairs, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of features (V, in) and weight (out, kz, ky, kx, in) from the output's (V_out, out)."""
    of_features, of_matrices = torch.zeros_like(features), []
    for matrix, pair in zip(_matrices(weight), pairs, strict=True):
        if pair is None:
            of_features += grad @ matrix.T
            of_matrices.append(grad.T @ features)
        else:
            own = grad.index_select(0, pair[1])
            of_features.index_add_(0, pair[0], own @ matrix.T)
            of_matrices.append(own.T @ features.index_select(0, pair[0]))
    return of_features, torch.stack(of_matrices, dim=1).view_as(weight)


def _matrices(weight: Tensor) -> Tensor:
    """Matrices (offsets, in, out) of a weight (out, kz, ky, kx, in), contiguous."""
    return weight.flatten(1, 3).permute(1, 2, 0).contiguous()

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

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from vexkd_model.lidar.voxels import Triple, voxel_coordinates, voxel_number

Pairs = list[tuple[Tensor, Tensor] | None]


@dataclass(frozen=True)
class Rulebook:
    """coordinates: int64 (V_out, 4) sample, z, y, x of the output's rows. shape: (Z, Y, X) of the output.

    pairs: for each offset of the kernel, int64 (P,) rows of the input and (P,) rows of the output, among which no row
    comes twice; None for the offset at which every row meets itself.
    """

    coordinates: Tensor
    shape: Triple
    pairs: Pairs


def submanifold_rulebook(coordinates: Tensor, shape: Triple, kernel: Triple) -> Rulebook:
    """The output's voxels are the input's, int64 (V, 4), distinct, in any order. Stride 1, odd kernels."""
    reach = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    first = coordinates - coordinates.new_tensor([0, *reach])
    # Whoever meets at an offset meets at the opposite one with exchanged parts: half of the search is enough.
    half = list(itertools.islice(_find(coordinates, shape, first, kernel, reach), math.prod(kernel) // 2))
    return Rulebook(coordinates, shape, [*half, None, *((outs, ins) for ins, outs in reversed(half))])


def strided_rulebook(coordinates: Tensor, shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Rulebook:
    """The output's voxels are all those whose kernel meets one of the input's; ascending in sample, z, y, x."""
    out_shape = strided_shape(shape, kernel, stride, padding)
    out = _reached(coordinates, out_shape, kernel, stride, padding)
    first = out * out.new_tensor([1, *stride]) - out.new_tensor([0, *padding])
    return Rulebook(out, out_shape, list(_find(coordinates, shape, first, kernel, padding)))


def strided_shape(shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Triple:
    """(Z, Y, X) of the output, as of a dense convolution."""
    z, y, x = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, kernel, stride, padding, strict=True))
    return z, y, x


def _reached(coordinates: Tensor, out_shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Tensor:
    """int64 (V_out, 4), ascending: voxels o whose kernel, o · stride − padding … + kernel − 1, meets any input."""
    sample, *axes = coordinates.unbind(1)
    choices = []  # along each axis: candidates, and for which voxels of the input they hold
    for i, n, k, s, p in zip(axes, out_shape, kernel, stride, padding, strict=True):
        last = torch.div(i + p, s, rounding_mode="floor")
        candidates = [last - back for back in range(math.ceil(k / s))]
        choices.append([(o, (o >= 0) & (o < n) & (i + p - o * s < k)) for o in candidates])
    numbers = [voxel_number(sample, z, y, x, out_shape)[z_holds & y_holds & x_holds]
               for (z, z_holds), (y, y_holds), (x, x_holds) in itertools.product(*choices)]
    return voxel_coordinates(torch.unique(torch.cat(numbers)), out_shape)


def _find(coordinates: Tensor, shape: Triple, first: Tensor, kernel: Triple, margin: Triple
          ) -> Iterator[tuple[Tensor, Tensor]]:
    """For each offset of the kernel, the rows of `coordinates` and the rows of `first` that meet there.

    first: int64 (V_out, 4), the voxel under the kernel's first offset, at most `margin` outside of the grid.
    """
    # Numbers in a grid so much wider that no step leaves its line, its layer or its sample for another one.
    layers, rows, columns = (n + 2 * m + k for n, m, k in zip(shape, margin, kernel, strict=True))
    inward = coordinates.new_tensor([0, *margin])

    def number(voxels: Tensor) -> Tensor:
        return voxel_number(*(voxels + inward).unbind(1), (layers, rows, columns))

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
    """(V, in) with weights (out, kz, ky, kx, in) → (V_out, out), float32."""
    if torch.compiler.is_exporting():
        return _forward(features, weight, rulebook.pairs, rulebook.coordinates.shape[0])
    return _PairConvolution.apply(features, weight, rulebook.pairs, rulebook.coordinates.shape[0])


class _PairConvolution(Function):
    """Gathers once more in the backward pass, instead of keeping what the forward pass gathered for each offset."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor, pairs: Pairs, rows: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        return _forward(features, weight, pairs, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *gradients(*ctx.saved_tensors, ctx.pairs, grad), None, None


def _forward(features: Tensor, weight: Tensor, pairs: Pairs, rows: int) -> Tensor:
    out = features.new_zeros(rows, weight.shape[0])
    for matrix, pair in zip(_matrices(weight), pairs, strict=True):
        if pair is None:
            out += features @ matrix
        else:
            out.index_add_(0, pair[1], features.index_select(0, pair[0]) @ matrix)
    return out


def gradients(features: Tensor, weight: Tensor, pairs: Pairs, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Of the features (V, in) and of the weight (out, kz, ky, kx, in), from that of the output (V_out, out)."""
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
    """(offsets, in, out), contiguous."""
    return weight.flatten(1, 3).permute(1, 2, 0).contiguous()

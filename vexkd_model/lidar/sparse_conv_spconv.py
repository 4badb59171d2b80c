"""Sparse 3D convolution computed by spconv 2, whose layout of weights (out, kz, ky, kx, in) is ours.

On a CPU, spconv 2.3.8 has two faults. Its threads share the pointers with which they sum rows, so that a few rows in a
thousand come out wrong: it runs on one thread. Its backward pass asks for a CUDA stream even there: it gets ours.
"""

from typing import Any

import torch
from spconv.cppconstants import CPU_ONLY_BUILD
from spconv.pytorch import ConvAlgo, SparseConvTensor
from spconv.pytorch.conv import SparseConvolutionBase
from spconv.pytorch.core import IndiceData
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vexkd_model.lidar.sparse_conv_torch import Pairs, gradients
from vexkd_model.lidar.voxels import Triple

SERVES_CUDA = not CPU_ONLY_BUILD
RULEBOOK = "rulebook"
OPENMP = ThreadpoolController().select(user_api="openmp")


def submanifold(
    features: Tensor, coordinates: Tensor, shape: Triple, batch_size: int, weight: Tensor, rulebooks: dict[str, object]
) -> Tensor:
    """Convolve (V, in) → (V, out), float32, on the same voxels.

    rulebooks: spconv's for these voxels and this kernel, filled by the first call.
    """
    x = SparseConvTensor(features, coordinates.int(), list(shape), batch_size, indice_dict=rulebooks)
    z, y, x_size = (size // 2 for size in weight.shape[1:4])
    out = _convolve(x, weight, (1, 1, 1), (z, y, x_size), submanifold=True)
    rulebooks.update(out.indice_dict)
    return out.features


def strided(
    features: Tensor,
    coordinates: Tensor,
    shape: Triple,
    batch_size: int,
    weight: Tensor,
    stride: Triple,
    padding: Triple,
) -> tuple[Tensor, Tensor, Triple]:
    """Convolve (V, in) → (V_out, out), float32, with int64 coordinates (V_out, 4) and shape (Z, Y, X) of the output."""
    x = SparseConvTensor(features, coordinates.int(), list(shape), batch_size)
    out = _convolve(x, weight, stride, padding, submanifold=False)
    depth, rows, columns = out.spatial_shape
    return out.features, out.indices.long(), (depth, rows, columns)


def _convolve(
    x: SparseConvTensor, weight: Tensor, stride: Triple, padding: Triple, submanifold: bool
) -> SparseConvTensor:
    out_channels, *kernel, in_channels = weight.shape
    on_cpu = not x.features.is_cuda
    layer = SparseConvolutionBase(
        3,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        bias=False,
        subm=submanifold,
        indice_key=RULEBOOK,
        algo=ConvAlgo.Native if on_cpu else ConvAlgo.MaskImplicitGemm,
    )
    if not on_cpu:
        return layer._conv_forward(torch.is_grad_enabled(), x, weight, None)
    with torch.no_grad(), OPENMP.limit(limits=1):
        out = layer._conv_forward(True, x, weight, None)
    if not torch.is_grad_enabled():
        return out
    pairs = _pairs(out.indice_dict[RULEBOOK])
    return out.replace_feature(_WithGradients.apply(x.features, weight, out.features, pairs))


def _pairs(found: IndiceData) -> Pairs:
    """Translate spconv's table to `Pairs`; of a submanifold's, spconv counts the first half only."""
    counts = found.indice_pair_num.tolist()
    if found.is_subm:
        half = counts[: len(counts) // 2]
        counts = [*half, 0, *reversed(half)]
    tables = zip(counts, *found.indice_pairs, strict=True)
    pairs: Pairs = [(ours[:count].long(), theirs[:count].long()) for count, ours, theirs in tables]
    if found.is_subm:
        pairs[len(pairs) // 2] = None
    return pairs


class _WithGradients(Function):
    """Gradients for what spconv has computed on a CPU."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, computed: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        return computed.view_as(computed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, weight = ctx.saved_tensors
        return *gradients(features, weight, ctx.pairs, grad), None, None

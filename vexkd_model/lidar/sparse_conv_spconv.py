"""Sparse 3D convolution computed by spconv 2, whose layout of weights (out, kz, ky, kx, in) is ours.

On a CPU it needs help (2.3.8). Its threads share the pointers with which they add rows up, and of a few rows a thousand
comes something wrong: it gets one thread. Its backward pass asks for a CUDA stream even there: it gets our gradients.
"""

import torch
from spconv.cppconstants import CPU_ONLY_BUILD
from spconv.pytorch import ConvAlgo, SparseConvTensor
from spconv.pytorch.conv import SparseConvolutionBase
from spconv.pytorch.core import IndiceData
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from vexkd_model.lidar.sparse_conv_torch import Pairs, gradients
from vexkd_model.lidar.voxels import Triple

SERVES_CUDA = not CPU_ONLY_BUILD
RULEBOOK = "rulebook"
OPENMP = ThreadpoolController().select(user_api="openmp")


def submanifold(features: Tensor, coordinates: Tensor, shape: Triple, batch_size: int, weight: Tensor,
                rulebooks: dict[str, object]) -> Tensor:
    """(V, in) → (V, out), float32. rulebooks: spconv's for these voxels and this kernel, filled by the first call."""
    x = SparseConvTensor(features, coordinates.int(), list(shape), batch_size, indice_dict=rulebooks)
    out = _convolve(x, weight, (1, 1, 1), tuple(size // 2 for size in weight.shape[1:4]), submanifold=True)
    rulebooks.update(out.indice_dict)
    return out.features


def strided(features: Tensor, coordinates: Tensor, shape: Triple, batch_size: int, weight: Tensor, stride: Triple,
            padding: Triple) -> tuple[Tensor, Tensor, Triple]:
    """(V, in) → (V_out, out), float32, with coordinates int64 (V_out, 4) in spconv's order and the shape (Z, Y, X)."""
    x = SparseConvTensor(features, coordinates.int(), list(shape), batch_size)
    out = _convolve(x, weight, stride, padding, submanifold=False)
    return out.features, out.indices.long(), tuple(out.spatial_shape)


def _convolve(x: SparseConvTensor, weight: Tensor, stride: Triple, padding: Triple, submanifold: bool
              ) -> SparseConvTensor:
    out_channels, *kernel, in_channels = weight.shape
    on_cpu = not x.features.is_cuda
    layer = SparseConvolutionBase(3, in_channels, out_channels, kernel, stride, padding, bias=False, subm=submanifold,
                                  indice_key=RULEBOOK,
                                  algo=ConvAlgo.Native if on_cpu else ConvAlgo.MaskImplicitGemm)
    if not on_cpu:
        return layer._conv_forward(torch.is_grad_enabled(), x, weight, None)
    with torch.no_grad(), OPENMP.limit(limits=1):
        out = layer._conv_forward(True, x, weight, None)
    if not torch.is_grad_enabled():
        return out
    pairs = _pairs(out.indice_dict[RULEBOOK])
    return out.replace_feature(_WithGradients.apply(x.features, weight, out.features, pairs))


def _pairs(found: IndiceData) -> Pairs:
    """spconv's table as `sparse_conv_torch` speaks of it; of a submanifold's, spconv counts the first half only."""
    counts = found.indice_pair_num.tolist()
    if found.is_subm:
        half = counts[:len(counts) // 2]
        counts = [*half, 0, *reversed(half)]
    pairs = [(ours[:n].long(), theirs[:n].long()) for n, ours, theirs in zip(counts, *found.indice_pairs, strict=True)]
    if found.is_subm:
        pairs[len(pairs) // 2] = None
    return pairs


class _WithGradients(Function):
    """What spconv computed on a CPU, and the gradients of it."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor, computed: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        return computed.view_as(computed)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *gradients(*ctx.saved_tensors, ctx.pairs, grad), None, None

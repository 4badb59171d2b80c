"""Sparse 3D convolutions: layers that own their weights and compute with spconv or plain PyTorch.

State dict and results are the same either way. spconv serves on a GPU where a CUDA build of it can be imported;
`sparse_conv_torch` serves elsewhere, for a cloud without a voxel, and always under `torch.export`. On a CPU it is as
fast as spconv, whose CPU build is right on one thread only. Both compute in float32, under autocast too: spconv's CPU
build has no bfloat16, and sums of many rows need more than its eight bits.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from vexkd_model.lidar import sparse_conv_torch
from vexkd_model.lidar.voxels import Triple

Backend = Literal["spconv", "torch"]


@dataclass(frozen=True)
class SparseMap:
    """Sparse map of V voxels.

    features: float32 (V, C). coordinates: int64 (V, 4) sample, z, y, x, distinct. shape: (Z, Y, X). rulebooks: pairs of
    rows by backend and kernel, which layers on the same voxels share.
    """

    features: Tensor
    coordinates: Tensor
    shape: Triple
    batch_size: int
    rulebooks: dict = field(default_factory=dict)

    def with_features(self, features: Tensor) -> "SparseMap":
        """Replace the features, on the same voxels."""
        return replace(self, features=features)


class SubmanifoldConv3d(nn.Module):
    """Submanifold convolution: SparseMap → SparseMap on the same voxels; an odd kernel along z, y, x; no bias."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Triple = (3, 3, 3), backend: Backend | None = None
    ) -> None:
        super().__init__()
        self.weight = _new_weight(in_channels, out_channels, kernel)
        self.kernel: Triple = kernel
        self.backend: Backend | None = _checked(backend)

    def forward(self, x: SparseMap) -> SparseMap:
        with _without_autocast(x.features.device.type):
            features, backend = x.features.float(), _backend_for(self.backend, x)
            if backend == "spconv" and (spconv := _spconv()) is not None:
                known = x.rulebooks.setdefault((backend, self.kernel), {})
                return x.with_features(
                    spconv.submanifold(features, x.coordinates, x.shape, x.batch_size, self.weight, known)
                )
            if (backend, self.kernel) not in x.rulebooks:
                x.rulebooks[backend, self.kernel] = sparse_conv_torch.submanifold_rulebook(
                    x.coordinates, x.shape, self.kernel
                )
            rulebook = x.rulebooks[backend, self.kernel]
            return x.with_features(sparse_conv_torch.convolve(features, self.weight, rulebook))


class SparseConv3d(nn.Module):
    """Sparse convolution: SparseMap → SparseMap wherever the kernel meets a voxel; no bias.

    Kernel, stride and padding are along z, y, x. The rows of the result ascend in sample, z, y, x, or come in spconv's
    own order.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple,
        stride: Triple,
        padding: Triple,
        backend: Backend | None = None,
    ) -> None:
        super().__init__()
        self.weight = _new_weight(in_channels, out_channels, kernel)
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.backend: Backend | None = _checked(backend)

    def out_shape(self, shape: Triple) -> Triple:
        """Shape (Z, Y, X) of the result for a map of `shape`."""
        return sparse_conv_torch.strided_shape(shape, self.kernel, self.stride, self.padding)

    def forward(self, x: SparseMap) -> SparseMap:
        with _without_autocast(x.features.device.type):
            features = x.features.float()
            if _backend_for(self.backend, x) == "spconv" and (spconv := _spconv()) is not None:
                features, coordinates, shape = spconv.strided(
                    features, x.coordinates, x.shape, x.batch_size, self.weight, self.stride, self.padding
                )
                return SparseMap(features, coordinates, shape, x.batch_size)
            rulebook = sparse_conv_torch.strided_rulebook(
                x.coordinates, x.shape, self.kernel, self.stride, self.padding
            )
            features = sparse_conv_torch.convolve(features, self.weight, rulebook)
            return SparseMap(features, rulebook.coordinates, rulebook.shape, x.batch_size)


def _without_autocast(device: str) -> AbstractContextManager:
    # Where it is off already, nothing is what torch.export should write down of it.
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _new_weight(in_channels: int, out_channels: int, kernel: Triple) -> nn.Parameter:
    """Make a weight (out, kz, ky, kx, in), uniform within 1/√(inputs of one output), PyTorch's initialisation."""
    bound = 1 / math.sqrt(in_channels * math.prod(kernel))
    return nn.Parameter(torch.empty(out_channels, *kernel, in_channels).uniform_(-bound, bound))


@cache
def _spconv() -> ModuleType | None:
    """Import spconv, or return None; not with this module, for it takes a fifth of a second of every start."""
    try:
        from vexkd_model.lidar import sparse_conv_spconv
    except ImportError:
        return None
    return sparse_conv_spconv


def _checked(backend: Backend | None) -> Backend | None:
    if backend == "spconv" and _spconv() is None:
        raise ImportError("spconv cannot be imported: install the build for this machine, or leave the backend open")
    return backend


def _backend_for(backend: Backend | None, x: SparseMap) -> Backend:
    # spconv raises on an empty input.
    if torch.compiler.is_exporting() or len(x.features) == 0:
        return "torch"
    if backend is not None:
        return backend
    spconv = _spconv() if x.features.is_cuda else None
    return "spconv" if spconv is not None and spconv.SERVES_CUDA else "torch"

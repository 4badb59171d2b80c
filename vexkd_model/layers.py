"""Layers that several networks share: convolution, batch norm, both, residual block, feed-forward.

The order of the layers is part of their names in saved weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

BEV_EPS = 1e-3  # epsilon of batch norms on BEV maps: SECOND's
IMAGE_EPS = 1e-5  # epsilon of batch norms on image features: PyTorch's default


_by_reference: ContextVar[bool] = ContextVar("by reference operators", default=False)


@contextmanager
def reference_operators() -> Iterator[None]:
    """Train by PyTorch's own operators in the block: the reference of the faster paths, for tests and benchmarks."""
    token = _by_reference.set(True)
    try:
        yield
    finally:
        _by_reference.reset(token)


def by_reference_operators() -> bool:
    """True within `reference_operators`."""
    return _by_reference.get()


class _TakesOneValue(_BatchNorm):
    """Batch norm that takes one value a channel, which has no variance: the running statistics serve it in training."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == self.num_features:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class BatchNorm1d(_TakesOneValue, nn.BatchNorm1d):
    """Batch norm (N, C) → (N, C), also of N = 1 in training."""


class BatchNorm2d(_TakesOneValue, nn.BatchNorm2d):
    """Batch norm (B, C, Y, X) → (B, C, Y, X), also of a single cell in training."""


class Conv2d(nn.Conv2d):
    """Convolution (B, C, Y, X) → (B, C', Y', X') whose gradients are fast on every CPU; otherwise nn.Conv2d."""

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.weight.requires_grad and _slow_weight_gradient(input, self.kernel_size):
            assert not isinstance(self.padding, str)
            layout = self.stride, self.padding, self.dilation, self.groups
            return _Convolution.apply(input, self.weight, self.bias, *layout)
        return super().forward(input)


def _slow_weight_gradient(x: Tensor, kernel: tuple[int, ...]) -> bool:
    """Tell if oneDNN has no fast gradient to a weight for a map x in channels-last memory, NHWC.

    Without AVX-512, the gradient from NCHW is faster by more than the copy costs; everything else is faster in NHWC.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and max(kernel) > 1
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not _has_avx512()
        and not by_reference_operators()
    )


@cache
def _has_avx512() -> bool:
    return bool(torch.cpu.get_capabilities().get("avx512_f"))


class _Convolution(Function):
    """Convolution in NHWC whose gradient to the weight is computed in NCHW."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased, ctx.geometry = bias is not None, (stride, padding, dilation, False, (0, 0), groups)
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        gradients = torch.ops.aten.convolution_backward
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x, _, _ = gradients(grad, x, weight, None, *ctx.geometry, (True, False, False))
        biases = [len(weight)] if ctx.biased else None
        _, of_weight, of_bias = gradients(
            grad.contiguous(), x.contiguous(), weight, biases, *ctx.geometry, (False, True, ctx.biased)
        )
        return of_x, of_weight, of_bias, None, None, None, None


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, eps: float = BEV_EPS
) -> nn.Sequential:
    """Make convolution, batch norm, ReLU: (B, in_channels, Y, X) → (B, out_channels, ⌈Y / stride⌉, ⌈X / stride⌉).

    kernel: odd.
    """
    return nn.Sequential(
        Conv2d(
            in_channels, out_channels, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation, bias=False
        ),
        BatchNorm2d(out_channels, eps=eps),
        nn.ReLU(inplace=True),
    )


class BasicBlock(nn.Module):
    """Residual block of two 3×3 convolutions, with a third one as shortcut where the size changes.

    (B, in_channels, Y, X) → (B, out_channels, ⌈Y / stride⌉, ⌈X / stride⌉); a stride of 1 keeps in_channels. Source:
    He et al. (CVPR 2016), figure 2; the 3×3 shortcut without a norm is BEVDet's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, eps: float = BEV_EPS) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn_relu(in_channels, out_channels, stride=stride, eps=eps),
            Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels, eps=eps),
        )
        self.shortcut = Conv2d(in_channels, out_channels, 3, stride, padding=1) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.layers(x) + self.shortcut(x)).relu()


def feed_forward_layers(channels: int, hidden: int, dropout: float) -> nn.Sequential:
    """Make the feed-forward network of a transformer layer (Vaswani et al. 2017): (…, channels) → (…, channels)."""
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, channels)
    )


class FeedForward(nn.Module):
    """Feed-forward network with a residual, then norm: (…, channels) → (…, channels)."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = feed_forward_layers(channels, hidden, dropout).append(nn.Dropout(dropout))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.layers(x))

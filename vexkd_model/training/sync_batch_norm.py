"""Synchronised batch norm for CPUs: the statistics are those of one process with the frames of all.

PyTorch's SyncBatchNorm serves GPUs and refuses other tensors.
"""

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def over_processes(model: nn.Module) -> nn.Module:
    """Replace every batch norm by one over all processes, in place; weights and buffers stay the same tensors."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BATCH_NORMS):
                setattr(parent, name, ProcessesBatchNorm(child))
    return model


def in_one_process(model: nn.Module) -> nn.Module:
    """Undo `over_processes`, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ProcessesBatchNorm):
                setattr(parent, name, child.replaced.train(child.training))
    return model


class ProcessesBatchNorm(_BatchNorm):
    """Batch norm (N, C, …) → the same shape over all processes, each of which may have another N, or none.

    replaced: the norm in whose place it stands.

    Weights, buffers and their names are those of the norm that it replaces. Fewer than two values a channel, in all
    processes together, have no variance: the running statistics serve them.
    """

    replaced: _BatchNorm

    def __init__(self, replaced: _BatchNorm) -> None:
        super().__init__(replaced.num_features, replaced.eps, replaced.momentum)
        self.weight, self.bias = replaced.weight, replaced.bias
        self.running_mean, self.running_var = replaced.running_mean, replaced.running_var
        self.num_batches_tracked = replaced.num_batches_tracked
        self.train(replaced.training)
        object.__setattr__(self, "replaced", replaced)  # known, but no part of the state dict

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any (N, C, …)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, …), in training by the statistics of all processes."""
        x = input
        if not self.training:
            return super().forward(x)
        values = x.float()
        axes = [0, *range(2, x.dim())]
        here = values.new_tensor([x.numel() / self.num_features])
        total = _AllReduce.apply(torch.cat([values.sum(axes), here]))
        count = total[-1].detach()
        if count < 2:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        shape = [1, -1, *[1] * (x.dim() - 2)]
        # Deviations from the common mean, not squares minus a square: those would cancel where the mean is large.
        deviation = values - (total[:-1] / count).view(shape)
        variance = _AllReduce.apply(deviation.square().sum(axes)) / count
        self._track((total[:-1] / count).detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (deviation * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        momentum = cast(float, self.momentum)
        self.get_buffer("num_batches_tracked").add_(1)
        self.get_buffer("running_mean").lerp_(mean, momentum)
        self.get_buffer("running_var").lerp_(variance, momentum)


class _AllReduce(Function):
    """Sum over all processes. Each of them uses it, so that its gradient is the sum of all of theirs."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> Tensor:
        return _AllReduce.apply(grad_outputs[0].contiguous())

"""Autocast of the device `pretend`: each operation casts as it does on CUDA, by PyTorch's list.

https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior, without what no model of ours calls.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.library import Library
from torch.utils._pytree import tree_flatten, tree_unflatten

ROUNDED = "addbmm addmm baddbmm bmm conv1d conv2d conv3d conv_transpose2d linear matmul mm mv prelu"
WIDENED = (
    "binary_cross_entropy_with_logits cdist cosine_similarity cumsum exp expm1 group_norm l1_loss layer_norm log "
    "log_softmax log1p mse_loss nll_loss norm pow prod reciprocal rsqrt smooth_l1_loss softmax softplus sum"
)
AS_THE_WIDEST = "addcdiv addcmul atan2 grid_sampler index_put scatter_add tensordot"
FLOATS = (torch.bfloat16, torch.float32)
KEY = "AutocastPrivateUse1"


def register_autocast(of_all: Library, of_aten: Library) -> None:
    """Register the casts. of_all, of_aten: libraries of the namespaces _ and aten."""
    of_all.fallback(torch.library.fallthrough_kernel, KEY)
    for names, choose in (
        (ROUNDED, lambda kinds: torch.bfloat16),
        (WIDENED, lambda kinds: torch.float32),
        (AS_THE_WIDEST, lambda kinds: torch.float32 if torch.float32 in kinds else torch.bfloat16),
    ):
        for name in names.split():
            packet = getattr(torch.ops.aten, name)
            for overload in packet.overloads():
                operation = getattr(packet, overload)
                if not operation._schema.is_mutable:
                    qualified = name if overload == "default" else f"{name}.{overload}"
                    of_aten.impl(qualified, _casting(operation, choose), KEY)


def _casting(operation: torch._ops.OpOverload, choose: Callable[[set[torch.dtype]], torch.dtype]) -> Callable:
    without = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(*args, **kwargs):
        values, tree = tree_flatten((args, kwargs))
        floats = [isinstance(value, Tensor) and value.dtype in FLOATS for value in values]
        kind = choose({value.dtype for value, is_float in zip(values, floats, strict=True) if is_float})
        with torch._C._ExcludeDispatchKeyGuard(without):
            values = [value.to(kind) if is_float else value for value, is_float in zip(values, floats, strict=True)]
            args, kwargs = tree_unflatten(values, tree)
            return operation(*args, **kwargs)

    return cast

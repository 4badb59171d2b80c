"""FLOPs of a computation, and the values that its convolutions and matrix products move."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vexkd_model.bench.rates import Cost


def cost_of(call: Callable[[], object]) -> Cost:
    """Count what `call` computes in PyTorch; a multiplication and an addition are two FLOPs.

    Values are counted as if each convolution and matrix product read its inputs and weights and wrote its output once,
    and everything between them (norms, activations, scatters) came for free.
    """
    with _Counter() as counter:
        call()
    return Cost(counter.flops, counter.values)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.flops = self.values = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry:
            with self:  # inference mode hands over composite operators whole
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs)
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=output)
            self.values += sum(leaf.numel() for leaf in tree_leaves((args, output)) if isinstance(leaf, Tensor))
        return output

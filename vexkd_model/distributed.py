"""What processes that train one model together must agree upon. Where there is no process group, one process agrees
with itself."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from vexkd_model.errors import UserError


class Shard(NamedTuple):
    """Process `rank` of `processes`, and the part of the data that is its own."""

    rank: int
    processes: int


ALONE = Shard(0, 1)


def processes() -> int:
    """How many of them train together now."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_count(count: Tensor) -> Tensor:
    """What each process divides its sum of losses by: the mean of the int64 counts (any shape), in all at least one.

    The mean over W processes of sum / mean_count is then what one process with all their frames would have computed,
    (sum of the sums) / max(sum of the counts, 1), and the mean of their gradients is its gradient.
    """
    others = processes()
    if others == 1:
        return count.clamp(min=1)
    total = count.clone()
    dist.all_reduce(total)
    return total.clamp(min=1) / others


def mean_over_processes(values: Tensor) -> Tensor:
    """The same on every process; without a gradient."""
    values, others = values.detach(), processes()
    if others > 1:
        values = values / others
        dist.all_reduce(values)
    return values


def gathered(value: object) -> list:
    """What each process gives, in the order of their ranks. Slow: for the end of a training, not for its steps."""
    found = [value] * processes()
    if len(found) > 1:
        dist.all_gather_object(found, value)
    return found


def agreed(error: UserError | None, device: torch.device) -> UserError | None:
    """The first process' error that has one, told to all of them, so that none waits for one that has stopped."""
    if processes() > 1:
        wrong = torch.tensor(int(error is not None), device=device)
        dist.all_reduce(wrong)
        if wrong:
            return next(filter(None, gathered(error)))
    return error

"""Collective operations of the processes that train one model; without a process group they are the identity."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from vexkd_model.errors import UserError


class Shard(NamedTuple):
    """Rank and number of processes, and so the part of the data that this process trains on."""

    rank: int
    processes: int


ALONE = Shard(0, 1)


def processes() -> int:
    """Return the number of processes that train together (world size)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_count(count: Tensor) -> Tensor:
    """Average int64 counts (any shape) over all processes; the total counts as at least 1.

    Each process divides its sum of losses by it.
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
    """Average a tensor of any shape over all processes, without a gradient."""
    values, others = values.detach(), processes()
    if others > 1:
        values = values / others
        dist.all_reduce(values)
    return values


def all_gather(value: object) -> list:
    """Gather a Python object from every rank, in rank order. Slow: for the end of a training, not for its steps."""
    values = [value] * processes()
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def broadcast_error(error: UserError | None, device: torch.device) -> UserError | None:
    """Return the first error raised by any rank, on every rank, so that none waits for one that has stopped."""
    if processes() > 1:
        wrong = torch.tensor(int(error is not None), device=device)
        dist.all_reduce(wrong)
        if wrong:
            return next(filter(None, all_gather(error)))
    return error


def leave_group() -> None:
    """End this process's part in the process group: threads of it that outlive the interpreter would abort it."""
    if processes() > 1:
        dist.destroy_process_group()

"""A function run by two processes of one group, for tests."""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing


def in_two_processes(function: Callable[[int], object]) -> list:
    """[function(0), function(1)], each in a process of its own, over gloo; the function must be a module's."""
    with tempfile.TemporaryDirectory() as folder:
        # Both are forked from one process that has imported what they need, and that serves later calls, too.
        multiprocessing.set_forkserver_preload(["torch", function.__module__])
        torch.multiprocessing.start_processes(_process, (function, Path(folder)), nprocs=2, start_method="forkserver")
        return [torch.load(Path(folder) / str(rank), weights_only=False) for rank in range(2)]


def _process(rank: int, function: Callable[[int], object], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'group'}", rank=rank, world_size=2)
    torch.save(function(rank), folder / str(rank))
    dist.destroy_process_group()

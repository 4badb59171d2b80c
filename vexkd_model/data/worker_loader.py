"""DataLoader whose batches need no /dev/shm, and whose trouble with its worker processes is one line.

PyTorch's own moves each tensor of a batch to a file of its own in /dev/shm, in a thread of the worker. Where that is
too small, as in a container, or where the handles do not suffice, the batch is lost, and the training waits for it for
ever.
"""

import errno
import io
import mmap
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vexkd_model.errors import UserError

ALIGNMENT = 64  # bytes, as of PyTorch's own memory
# A worker is at most two batches ahead (DataLoader's prefetch_factor), and a third may just be taken.
_in_flight: deque[BinaryIO] = deque(maxlen=3)


class WorkerLoader(DataLoader):
    """DataLoader that yields a UserError in place of a batch that its workers cannot deliver.

    Arguments as of DataLoader.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        num_workers: int,
        collate_fn: Callable[[Sequence[Any]], Any],
        **options: Any,
    ) -> None:
        if num_workers:
            collate_fn = partial(_packed, collate=collate_fn, workers=num_workers)
        super().__init__(
            dataset,
            batch_size,
            num_workers=num_workers,
            collate_fn=collate_fn,
            persistent_workers=num_workers > 0,
            **options,
        )

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Yield the batches of an epoch in the order of their items."""
        batches = None
        try:
            on_death = signal.getsignal(signal.SIGCHLD)
            batches = super().__iter__()
            # PyTorch's handler would raise in the middle of whatever this process is doing.
            signal.signal(signal.SIGCHLD, on_death or signal.SIG_DFL)
            for batch in batches:
                yield batch.unpack() if isinstance(batch, PackedBatch) else batch
        except (RuntimeError, OSError, EOFError) as error:
            fault = _shortage(error, self.num_workers) or _death(batches, self.num_workers)
            if fault is None:
                raise
            yield fault


class PackedBatch(NamedTuple):
    """Batch on its way from a worker: a pickle whose arrays lie at `spans` (start, end) of anonymous shared memory.

    memory: its path while the worker holds it, which is until its next three batches.
    """

    content: bytes
    memory: str
    spans: list[tuple[int, int]]

    @classmethod
    def pack(cls, batch: object) -> "PackedBatch":
        """Copy the tensors of a batch to shared memory. OSError where memory or handles do not suffice."""
        content, arrays, spans = io.BytesIO(), list[pickle.PickleBuffer](), list[tuple[int, int]]()
        _ArrayPickler(content, protocol=5, buffer_callback=arrays.append).dump(batch)
        file = open(os.memfd_create("batch"), "wb")  # noqa: SIM115
        for array in arrays:
            start = file.seek(-file.tell() % ALIGNMENT, os.SEEK_CUR)
            file.write(array.raw())
            spans.append((start, file.tell()))
        file.flush()
        if len(_in_flight) == _in_flight.maxlen:
            _in_flight.popleft().close()
        _in_flight.append(file)
        return cls(content.getvalue(), f"/proc/{os.getpid()}/fd/{file.fileno()}", spans)

    def unpack(self) -> Any:
        """Return the batch; its tensors lie in the shared memory."""
        with open(self.memory, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            memory = memoryview(mmap.mmap(file.fileno(), size) if size else b"")
        return pickle.loads(self.content, buffers=[memory[start:end] for start, end in self.spans])


class _ArrayPickler(pickle.Pickler):
    """Pickler of tensors as arrays, which leave their memory apart."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def _packed(samples: Sequence[Any], collate: Callable[[Sequence[Any]], Any], workers: int) -> PackedBatch | UserError:
    """Collate and pack in a worker, which returns the error if it is short of memory or handles."""
    batch = collate(samples)
    if isinstance(batch, UserError):
        return batch
    try:
        return PackedBatch.pack(batch)
    except OSError as error:
        if shortage := _shortage(error, workers):
            return shortage
        raise


def _shortage(error: Exception, workers: int) -> UserError | None:
    """Error of one line for a machine that is short of handles, processes or memory; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE) or os.strerror(errno.EMFILE) in str(error):
        return UserError(
            f"--workers {workers}: too few file handles; allow more (ulimit -n 65536, or docker run "
            "--ulimit nofile=65536), or take fewer --workers"
        )
    if number == errno.ENOSPC:
        return UserError(
            f"--workers {workers}: no space left in /dev/shm for the locks of loading processes; give it "
            "more (docker run --shm-size=1g), or take --workers 0"
        )
    if number in (errno.ENOMEM, errno.EAGAIN):
        return UserError(
            f"--workers {workers}: too little memory, or too many processes; take fewer --workers or a "
            "smaller training.batch_size"
        )
    return None


def _death(batches: Any, workers: int) -> UserError | None:
    """Error of one line for a worker that died, None if all are alive."""
    ends = [worker.exitcode for worker in getattr(batches, "_workers", ()) if worker.exitcode is not None]
    if not ends:
        return None
    how = f"was killed by {signal.Signals(-ends[0]).name}" if ends[0] < 0 else f"ended with exit code {ends[0]}"
    memory = ", perhaps for memory" if ends[0] == -signal.SIGKILL else ""
    return UserError(
        f"--workers {workers}: a loading process {how}{memory}; take fewer --workers or a smaller "
        "training.batch_size, and go on with --resume"
    )

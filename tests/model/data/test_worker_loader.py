"""A training whose loading processes can go on no more ends in one line, and does not wait for ever."""

import ctypes
import os
import resource
import signal
import traceback
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from vexkd_model.data.batch import PastCameras
from vexkd_model.data.worker_loader import PackedBatch, WorkerLoader
from vexkd_model.errors import UserError

pytestmark = pytest.mark.timeout(60)
LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USERS_AND_MOUNTS = 0x10000000 | 0x00020000
NOT_ALLOWED = 77


class Items(Dataset):
    """Six items; the third meets what `trouble` does."""

    def __init__(self, trouble=None):
        self.trouble = trouble

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return self.trouble() if self.trouble and i == 2 else torch.full((2,), i)


def loaded(trouble=None, workers=1):
    return list(WorkerLoader(Items(trouble), 2, workers, list))


def without_handles():
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return torch.ones(1)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_the_items_in_order(workers):
    batches = loaded(workers=workers)
    assert [[item.tolist() for item in batch] for batch in batches] == [
        [[0, 0], [1, 1]],
        [[2, 2], [3, 3]],
        [[4, 4], [5, 5]],
    ]


def test_a_batch_comes_out_as_it_went_in_and_can_be_written_to():
    batch = PastCameras(None, torch.arange(7.0).reshape(1, 7)[:, ::2], torch.tensor([True, False]))
    empty, double = torch.zeros(0, 5), torch.tensor([[1, 2]], dtype=torch.float64)
    unpacked, (void, number, word) = PackedBatch.pack((batch, [empty, double, "token"])).unpack()
    assert torch.equal(unpacked.now_from_then, batch.now_from_then) and torch.equal(unpacked.present, batch.present)
    assert void.shape == (0, 5) and torch.equal(number, double) and number.dtype == torch.float64 and word == "token"
    assert number.data_ptr() % 64 == 0
    number += 1
    assert number.tolist() == [[2, 3]]
    assert PackedBatch.pack([]).unpack() == []


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (without_handles, r"--workers 1: too few file handles; allow more \(ulimit -n 65536"),
        (killed, r"--workers 1: a loading process was killed by SIGKILL, perhaps for memory; take fewer --workers"),
    ],
    ids=["file handles", "killed"],
)
def test_trouble_of_a_worker_is_one_line(trouble, message):
    error = next(batch for batch in loaded(trouble) if isinstance(batch, UserError))
    assert "\n" not in str(error)
    with pytest.raises(UserError, match=message):
        raise error


def test_any_other_error_of_an_item_stays_what_it_is():
    with pytest.raises(ZeroDivisionError):
        loaded(lambda: 1 / 0)


def test_a_worker_that_dies_does_not_interrupt_what_its_parent_does():
    handler = signal.getsignal(signal.SIGCHLD)
    batches = iter(WorkerLoader(Items(), 2, 1, list))
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) == handler
    batches.close()


def with_little_shared_memory(check):
    """Run `check` in a process that has a /dev/shm of 64 KB; skip where the machine does not let it."""
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == NOT_ALLOWED:
            pytest.skip("this machine gives nobody a /dev/shm of their own")
        assert code == 0
        return
    user, group = os.getuid(), os.getgid()
    try:
        if LIBC.unshare(NEW_USERS_AND_MOUNTS):
            os._exit(NOT_ALLOWED)
        for name, content in (("uid_map", f"0 {user} 1"), ("setgroups", "deny"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(content)
        if LIBC.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=64k"):
            os._exit(NOT_ALLOWED)
        check()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def test_batches_larger_than_the_shared_memory_of_a_container_arrive():
    def check():
        (large, _), *_ = loaded(lambda: torch.ones(1 << 20))[1:]
        assert large.sum() == 1 << 20

    with_little_shared_memory(check)


def test_no_shared_memory_at_all_is_one_line():
    def check():
        with open(Path("/dev/shm/full"), "wb", buffering=0) as file:
            file.write(bytes(1 << 16))
        (error,) = loaded()
        assert "--workers 1: no space left in /dev/shm for the locks of loading processes" in str(error)

    with_little_shared_memory(check)

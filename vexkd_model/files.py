"""Atomic writing of files and folders, full disks, and lock files."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vexkd_model.errors import UserError

PARTIAL = ".partial"  # suffix of what is not finished; a killed process leaves it behind


@contextmanager
def atomic_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path; the file written there becomes `path` in one step when the block ends without error.

    The folder is made where absent. A reader sees the old file or the whole new one. durable: after a power failure,
    too. UserError names a disk that is full.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if durable:
                _sync(partial)
            os.replace(partial, path)
            if durable:
                with suppress(OSError):  # not every file system can synchronise a folder
                    _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Raise a UserError that names `path` and its disk where the block fails because the disk or the quota is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        disk = next(folder for folder in (there, *there.absolute().parents) if os.path.ismount(folder))
        free = shutil.disk_usage(there).free / 1e6
        raise UserError(
            f"{path}: {error.strerror}: {free:.1f} MB are free on the disk of {disk}; make room there, and "
            "give the same command again"
        ) from None


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, document: object, indent: int | None = 1) -> None:
    """Write `document` as JSON, in one line without `indent`.

    Not-a-number is refused (ValueError), because JSON has no word for it.
    """
    separators = (",", ": ") if indent else (",", ":")
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(document, indent=indent, separators=separators, allow_nan=False) + "\n")


def replace_folder(new: Path, folder: Path) -> None:
    """Move the finished folder `new` to `folder`, in place of what is there.

    Killed at any moment, `folder` is the old one, the new one or absent, never a part of one: the old one is removed
    only beside `new`, as `NEW.replaced`.
    """
    replaced = new.with_name(f"{new.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.is_dir():
        os.replace(folder, replaced)
    os.replace(new, folder)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; it ends with the process, however that ends.

    Where another process holds it: UserError(busy), or without `busy` wait until it is free.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A soft lock, filelock's way out on file systems without flock, would outlive a killed process.
        held = FileLock(path, blocking=busy is None, fallback_to_soft=False).acquire()
    except Timeout:
        raise UserError(busy) from None
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be locked ({error.strerror}); give another folder") from None
    with held:  # a forked process has no part in it: filelock closes the file there
        yield

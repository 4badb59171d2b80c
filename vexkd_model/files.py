"""Atomic writing of files and folders, and lock files."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vexkd_model.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; the file written there becomes `path` in one step when the block ends without error.

    The folder is made where absent. A reader sees the old file or the whole new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, document: object, indent: int | None = 1) -> None:
    """Write `document` as JSON, in one line without `indent`.

    Not-a-number is refused (ValueError), because JSON has no word for it.
    """
    separators = (",", ": ") if indent else (",", ":")
    with whole_file(path) as partial:
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
    with held:
        yield

"""Identity of a prepared split: digests of its tables and files, to which runs, teachers' maps and cards are bound."""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from vexkd_model.data.index import FRAMES, MASKS, FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.files import write_json
from vexkd_model.progress import progress

KEPT = "identity.json"  # beside the index: the identity, and the digest of sizes and times at which it was computed
CHUNK = 1 << 20  # bytes of a file that is read whole
SAMPLE = 4096  # bytes from the middle of a sensor file: of 300 GB, no more can be read in minutes
THREADS = 8
MANY = 10_000  # files, which take seconds


class DataIdentity(NamedTuple):
    """Identity of a split, the same wherever the dataset lies: hexadecimal digests.

    tables: of the dataset's tables. files: of the split's frames and map masks, and of the sizes and a sample of all
    sensor files.
    """

    tables: str
    files: str


def data_identity(index: FrameIndex) -> DataIdentity:
    """Compute the identity of an index's split, or read it where no file has changed since it was computed.

    UserError names a sensor file that is missing, and an index that was made of other tables than are there now.
    """
    tables = sorted((index.dataroot / index.version).glob("*.json"))
    made = [path for path in (index.folder / FRAMES, index.folder / MASKS) if path.is_file()]
    sensor_files = _sensor_files(index)
    seen = _seen([*tables, *made, *sensor_files])
    kept = _kept(index.folder / KEPT)
    if kept.get("seen") == seen:
        return DataIdentity(kept["tables"], kept["files"])
    if tables:
        _check_tables(index)
    identity = DataIdentity(index.tables, _digest(index, made, sensor_files))
    with suppress(OSError):  # a folder that cannot be written
        write_json(index.folder / KEPT, {"seen": seen, **identity._asdict()})
    return identity


def _sensor_files(index: FrameIndex) -> list[Path]:
    """List the files of the sensors that the index was made with: a camera student's data need none of the LiDAR."""
    columns = ["camera_path", *(["sweep_path"] if index.inventory.points is not None else [])]
    names = {name for column in columns for row in index.column(column) for name in row}
    return [index.dataroot / name for name in sorted(names)]


def _seen(files: Iterable[Path]) -> str:
    """Digest of names, sizes and times of change, in which a file that was touched shows without being read."""
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(
                f"{path}: cannot be read ({error.strerror}); complete the dataset, or run `vexkd prepare` again"
            ) from None
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _kept(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _check_tables(index: FrameIndex) -> None:
    from vexkd_model.data.tables import tables_digest  # imports the devkit, which takes seconds

    if tables_digest(index.dataroot, index.version) != index.tables:
        raise UserError(
            f"{index.folder}: made of other tables than {index.dataroot / index.version} holds now; run "
            f"`vexkd prepare {index.dataroot} --version {index.version}` again"
        )


def _digest(index: FrameIndex, made: list[Path], sensor_files: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in made:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    with ThreadPoolExecutor(THREADS) as pool:
        samples: Iterable[bytes] = pool.map(_sample, sensor_files)
        if len(sensor_files) >= MANY:
            samples = progress(samples, f"identity of {index.split}", len(sensor_files), "files")
        for path, sample in zip(sensor_files, samples, strict=True):
            digest.update(str(path.relative_to(index.dataroot)).encode() + sample)
    return digest.hexdigest()


def _sample(path: Path) -> bytes:
    """Digest of a file's size and middle."""
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        middle = os.pread(handle, SAMPLE, max(0, (size - SAMPLE) // 2))
    finally:
        os.close(handle)
    return hashlib.blake2b(b"%d " % size + middle, digest_size=16).digest()

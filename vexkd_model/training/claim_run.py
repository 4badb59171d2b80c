"""Claim a run folder for one training: lock it, and write its record or compare it with what is to be resumed."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vexkd_model.config import ModelConfig, dump_config, load_config
from vexkd_model.data.identity import data_identity
from vexkd_model.data.index import FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.files import PARTIAL, atomic_file, locked, write_json
from vexkd_model.machine import machine_kind
from vexkd_model.training.run import CONFIG, RECORD, describe_data, source_revision

LOCK = ".lock"


@contextmanager
def claimed_run(
    run: Path, config: ModelConfig, index: FrameIndex, resume: bool, circumstances: Mapping[str, Any]
) -> Iterator[None]:
    """Hold a run folder while the block runs: a new one, or one to be resumed with the same configuration and data.

    circumstances: further entries of the record that a resumed training must repeat: the number of `processes`, on
    which the steps of an epoch depend, the `teacher` and the `unlabelled` frames, if any. UserError names what differs,
    a folder that is no run, and one that another process holds.
    """
    _check_ours(run)
    if resume and not run.exists():
        raise UserError(f"{run}: holds no run to go on with; leave out --resume, or correct --out")
    with locked(run / LOCK, busy(run)):
        for unfinished in run.rglob(f"*{PARTIAL}"):  # of a training that was killed
            unfinished.unlink()
        _make_or_check(run, config, index, resume, circumstances)
        yield


def busy(run: Path) -> str:
    """Make the message for a run folder that another process holds."""
    return f"{run}: another training is at work in it; wait for it, or choose another --out"


def _check_ours(run: Path) -> None:
    # These alone were left by a training that was killed before its configuration followed.
    if (
        run.exists()
        and not (run / CONFIG).is_file()
        and any(path.name not in (RECORD, LOCK) and path.suffix != PARTIAL for path in run.iterdir())
    ):
        raise UserError(f"{run}: is neither empty nor a run; choose another --out")


def _make_or_check(
    run: Path, config: ModelConfig, index: FrameIndex, resume: bool, circumstances: Mapping[str, Any]
) -> None:
    stored = run / CONFIG
    if stored.is_file():
        if not resume:
            raise UserError(f"{run}: holds a run already; add --resume to go on, or choose another --out")
        if load_config(stored) != config:
            raise UserError(f"{stored}: differs from the given configuration; resume with the one the run began with")
        _check_circumstances(run / RECORD, circumstances)
        _check_data(run / RECORD, index)
        return
    write_json(
        run / RECORD,
        {
            "command": " ".join(["vexkd", *sys.argv[1:]]),
            "data": describe_data(index),
            "identity": data_identity(index)._asdict(),
            "index": str(index.folder.resolve()),
            "source_revision": source_revision(),
            "torch": torch.__version__,
            "machine": machine_kind(),
            **circumstances,
        },
    )
    with atomic_file(stored) as partial:
        partial.write_text(dump_config(config))


def _check_circumstances(path: Path, now: Mapping[str, Any]) -> None:
    began = json.loads(path.read_text())
    if began.get("processes", 1) != now["processes"]:
        raise UserError(
            f"{path}: the run began with {began['processes']} processes, not {now['processes']}; choose "
            f"--devices and --nodes so that it has {began['processes']} again"
        )
    before, after = (circumstances.get("teacher", {}) for circumstances in (began, now))
    if before.get("fingerprint") != after.get("fingerprint"):
        raise UserError(f"{path}: the run began with {_named(before)}, not with {_named(after)}; resume with the same")
    if began.get("unlabelled") != now.get("unlabelled"):
        raise UserError(f"{path}: the run began with other frames of --unlabelled; resume with the same")


def _check_data(path: Path, index: FrameIndex) -> None:
    """Raise UserError unless the record at `path` is of the same split, with the same content."""
    began = json.loads(path.read_text())
    cure = "resume with the data that it began with, or begin another run"
    for key, now in describe_data(index).items():
        if began["data"].get(key) != now:
            raise UserError(f"{path}: the run began with {key} {began['data'].get(key)}, not {now}; {cure}")
    for part, now in data_identity(index)._asdict().items():
        if began.get("identity", {}).get(part, now) != now:
            what = "tables" if part == "tables" else "sensor files, boxes or maps"
            raise UserError(f"{path}: the {what} in {index.dataroot} are not those that the run began with; {cure}")


def _named(teacher: Mapping[str, str]) -> str:
    return f"the teacher {teacher['from']} ({teacher['fingerprint'][:8]})" if teacher else "no teacher"

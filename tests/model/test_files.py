"""Atomic files and folders, and lock files that one process holds."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from support.clock import wait_for

from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file, locked, replace_folder, write_json


def names(folder):
    return [entry.name for entry in folder.iterdir()]


@pytest.mark.parametrize("indent", [1, None])
def test_json_is_written_whole_or_not_at_all(tmp_path, indent):
    path = tmp_path / "new" / "figures.json"
    write_json(path, {"a": 1.5}, indent)
    assert json.loads(path.read_text()) == {"a": 1.5}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")}, indent)
    assert json.loads(path.read_text()) == {"a": 1.5} and names(path.parent) == ["figures.json"]


def test_a_file_whose_writer_fails_half_way_keeps_its_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as partial:
        partial.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and names(tmp_path) == ["file"]


def folder_with(path, content):
    path.mkdir()
    for name in ("a", "b"):
        (path / name).write_text(content)
    return path


@pytest.mark.parametrize("steps", range(6))
def test_a_folder_is_old_or_new_or_absent_wherever_its_replacement_is_killed(tmp_path, monkeypatch, steps):
    folder, new = folder_with(tmp_path / "folder", "old"), folder_with(tmp_path / "new", "new")
    left = iter(range(steps))

    def killed_at_last(function):
        def step(*arguments, **options):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return step

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        for module, name in ((os, "replace"), (os, "unlink"), (shutil, "rmtree")):
            patch.setattr(module, name, killed_at_last(getattr(module, name)))
        replace_folder(new, folder)
    assert not folder.exists() or {(folder / name).read_text() for name in ("a", "b")} in ({"old"}, {"new"})
    if not new.exists():
        folder_with(new, "new")
    replace_folder(new, folder)
    assert (folder / "a").read_text() == "new" and names(tmp_path) == ["folder"]


def test_a_lock_is_free_again_when_its_holder_was_killed_though_a_forked_process_lives_on(tmp_path):
    path = tmp_path / "new" / "lock"
    code = (
        f"import os, time; from pathlib import Path; from vexkd_model.files import locked\n"
        f"with locked(Path({str(path)!r})):\n"
        f" child = os.fork()\n"  # as a DataLoader's worker, which may outlive its parent for seconds
        f" child and print(child, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    with pytest.raises(UserError, match=r"^somebody is here$"), locked(path, "somebody is here"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    def is_free():
        with suppress(UserError), locked(path, "somebody is here"):
            return True

    wait_for(is_free, "the child to let go of what it was forked with")
    with locked(path, "somebody is here"), pytest.raises(UserError, match="busy"), locked(path, "busy"):
        pass
    os.kill(child, signal.SIGKILL)
    holder.stdout.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file: cannot be locked \(File exists\); give another folder"),
        locked(tmp_path / "file" / "lock"),
    ):
        pass

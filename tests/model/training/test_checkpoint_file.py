"""A checkpoint is the old one or the whole new one, whenever its writer is killed and whatever disk it lies on."""

import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
import torch
from support.clock import wait_for

from vexkd_model.errors import UserError
from vexkd_model.training.claim_run import claimed_run
from vexkd_model.training.fit import build_trainer
from vexkd_model.training.module import TrainingModule
from vexkd_model.training.run import LAST_CHECKPOINT, load_run
from vexkd_model.training.train import train

KILLS = int(os.environ.get("VEXKD_KILLS", "8"))
NUMBERS = 4_000_000  # 16 MB: a write takes milliseconds


@pytest.fixture
def another_disk():
    """A folder on another file system than the system's temporary one, in which Lightning stages checkpoints."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("no file system but that of the temporary folder")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def write_one_after_the_other(checkpoint_io, path):
    for epoch in range(1000):
        checkpoint_io.save_checkpoint({"epoch": epoch, "first": CONTENT[0], "last": CONTENT[1]}, path)


CONTENT = torch.zeros(NUMBERS // 2), torch.zeros(NUMBERS // 2)


def test_a_killed_writer_always_leaves_a_whole_checkpoint(tiny_config, another_disk):
    draw, path, forked = random.Random(1), another_disk / LAST_CHECKPOINT, multiprocessing.get_context("fork")
    trainer = build_trainer(tiny_config.training, another_disk, False, {"accelerator": "cpu"})
    for _ in range(KILLS):
        path.unlink(missing_ok=True)
        writer = forked.Process(target=write_one_after_the_other, args=(trainer.strategy.checkpoint_io, path))
        writer.start()
        wait_for(path.is_file, "the first checkpoint")
        time.sleep(draw.uniform(0, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        kept = torch.load(path, weights_only=True)
        assert kept["epoch"] >= 0 and kept["last"].shape == CONTENT[1].shape


def test_a_full_disk_is_named_and_keeps_the_checkpoint_before(tiny_config, tiny_index, tmp_path, monkeypatch):
    run = tmp_path / "run"

    def fill_disk(module):
        if module.current_epoch == 2:
            (run / LAST_CHECKPOINT).with_name(f"{LAST_CHECKPOINT.name}.{os.getpid()}.partial").symlink_to("/dev/full")

    monkeypatch.setattr(TrainingModule, "on_train_epoch_start", fill_disk, raising=False)
    with pytest.raises(UserError, match=r"last\.ckpt: No space left on device: .* MB are free on the disk of") as error:
        train(tiny_config, tiny_index, run, workers=0, resume=False, interactive=False)
    assert "\n" not in str(error.value)
    assert load_run(run)[2] == 2 and [path.name for path in (run / LAST_CHECKPOINT).parent.iterdir()] == ["last.ckpt"]


def test_a_disk_that_fills_up_in_the_log_is_named(tiny_config, tiny_index, tmp_path, monkeypatch):
    def log(*_):
        with open("/dev/full", "w") as file:
            file.write("loss")

    monkeypatch.setattr(TrainingModule, "on_train_epoch_start", log, raising=False)
    with pytest.raises(UserError, match=r"run: No space left on device: .* make room"):
        train(tiny_config, tiny_index, tmp_path / "run", workers=0, resume=False, interactive=False)


def test_a_run_folder_serves_one_training_at_a_time(tiny_config, tiny_index, tmp_path):
    run, left_behind = tmp_path / "run", tmp_path / "run" / LAST_CHECKPOINT.parent / "last.ckpt.1.partial"
    with claimed_run(run, tiny_config, tiny_index, False, {"processes": 1}):
        for resume in (False, True):
            with pytest.raises(UserError, match="run: another training is at work in it; wait for it"):
                train(tiny_config, tiny_index, run, workers=0, resume=resume, interactive=False)
    left_behind.parent.mkdir()
    left_behind.write_bytes(b"half of a checkpoint")
    with claimed_run(run, tiny_config, tiny_index, True, {"processes": 1}):
        assert not left_behind.exists()


def test_a_folder_that_is_no_run_is_left_as_it_was(tiny_config, tiny_index, tmp_path):
    (tmp_path / "letter").write_text("dear")
    with (
        pytest.raises(UserError, match="neither empty nor a run"),
        claimed_run(tmp_path, tiny_config, tiny_index, False, {"processes": 1}),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]

"""Trainings in real processes: two of them learn what one does, and a killed one goes on as if it never was."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from support.clock import wait_for
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.package import save_package
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.training import fit
from vexkd_model.training.claim_run import claimed_run
from vexkd_model.training.distill import distill
from vexkd_model.training.processes import trainer_arguments
from vexkd_model.training.run import LAST_CHECKPOINT, load_run
from vexkd_model.training.slurm import srun_step
from vexkd_model.training.step import NAN_BATCH
from vexkd_model.training.train import train

# What SLURM puts into the script of `sbatch --ntasks=2`, where nobody calls srun; and a rank that a task has passed on.
ALLOCATION = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "study",
    "SLURM_NTASKS": "2",
    "SLURM_NPROCS": "2",
    "SLURM_NNODES": "1",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NODELIST": "node1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
SCRIPT = Path(__file__).with_name("train_script.py")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
FRAMES = 8
# Rounding alone parts two runs at the configuration's rate: in one process, the frames of each batch in another order
# change the loss of step 15 by 2e-3. At a tenth of it they stay together.
SLOW = "training.learning_rate=0.0002"
VOXELS_AND_PROPOSALS = (
    "lidar={sweeps: 2, encoder: {kind: voxel, voxel: 0.45, voxel_z: 0.8, z_min: -5.0, z_max: 3.0, "
    "stage_channels: [8, 8, 16], channels: 16}}",
    "training.epochs=1",
    "detection={kind: transfusion, channels: 16, proposals: 20, heads: 2, feedforward: 16, dropout: 0.0, "
    "loss_weight: 1.0, score_threshold: 0.0, max_detections: 20}",
)


@pytest.fixture(scope="module", autouse=True)
def every_step_is_logged():
    interval = fit.LOG_EVERY_STEPS
    fit.LOG_EVERY_STEPS = 1
    yield
    fit.LOG_EVERY_STEPS = interval


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """The folder of an index with FRAMES frames to train on."""
    folder = tmp_path_factory.mktemp("street")
    prepare(write_tiny_nuscenes(folder / "data", {"scene-0061": FRAMES}), "v1.0-mini", folder / "index", ["mini_train"])
    return folder / "index"


def command(config_path, street, run, settings, *options, launcher=()):
    sets = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, *launcher, str(SCRIPT), str(config_path), str(street), str(run), *options, *sets]


def environment(**variables):
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])} | variables


def finished(words):
    return subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=280)


def step_variables(rank):
    """Variables of the tasks of `srun -n 2`, beside those of their job."""
    return ALLOCATION | {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }


def started_by_srun(words):
    """[(exit status, stdout, stderr) of each of two processes], started as srun does."""
    tasks = [
        subprocess.Popen(
            words,
            env=environment(**step_variables(rank), MASTER_PORT=str(free_port())),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    outputs = [task.communicate(timeout=280) for task in tasks]
    return [(task.returncode, *output) for task, output in zip(tasks, outputs, strict=True)]


@cache
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alone(config_path, street, run, settings):
    """The same in this process."""
    train(load_config(config_path, settings), FrameIndex.open(street, "mini_train"), run, 0, False, False)


def curves(run):
    """Name of each loss → its values, step by step."""
    rows = list(csv.DictReader((run / "log" / "version_0" / "metrics.csv").open()))
    return {name: np.array([float(row[name]) for row in rows if row[name]]) for name in rows[0] if "loss" in name}


@pytest.mark.slow
def test_two_processes_learn_like_one_with_twice_the_batch(config_path, tiny_settings, street, tmp_path):
    settings = [*tiny_settings, SLOW]
    done = finished(command(config_path, street, tmp_path / "two", settings, "--devices", "2"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trained\n" and done.stderr.count("epoch 5/5") == 1
    alone(config_path, street, tmp_path / "one", [*settings, "training.batch_size=2"])
    two, one = curves(tmp_path / "two"), curves(tmp_path / "one")
    assert len(one["loss"]) == 20 and one["loss"][-1] < 0.96 * one["loss"][0]
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-3)
    assert two.keys() == one.keys() and len(two) == 9
    for name in one:
        np.testing.assert_allclose(two[name][:3], one[name][:3], rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_torchrun_and_layers_with_other_numbers_of_rows_in_each_process(config_path, tiny_settings, street, tmp_path):
    """Voxels, proposals and matches. Later, a proposal that changes places with its equal would part the two."""
    kept = [setting for setting in tiny_settings if not setting.startswith(("lidar", "detection"))]
    settings = [*kept, SLOW, *VOXELS_AND_PROPOSALS]
    done = finished(command(config_path, street, tmp_path / "two", settings, "--devices", "2", launcher=TORCHRUN))
    assert done.returncode == 0, done.stderr
    alone(config_path, street, tmp_path / "one", [*settings, "training.batch_size=2"])
    two, one = curves(tmp_path / "two"), curves(tmp_path / "one")
    assert two.keys() == one.keys() and len(one["loss"]) == 4 and "loss/class" in one
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, err_msg=name)


@pytest.mark.slow
def test_tasks_of_srun_learn_like_one_process_with_twice_the_batch(config_path, tiny_settings, street, tmp_path):
    settings = [*tiny_settings, SLOW, "training.epochs=1"]
    first, second = started_by_srun(words := command(config_path, street, tmp_path / "two", settings))
    assert first[:2] == (0, "trained\n") and second == (0, "", ""), (first, second)
    alone(config_path, street, tmp_path / "one", [*settings, "training.batch_size=2"])
    two, one = curves(tmp_path / "two"), curves(tmp_path / "one")
    assert len(one["loss"]) == 4
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-3)

    first, second = started_by_srun(words)  # as if it was asked for twice: neither waits for the other
    assert first == (
        1,
        "",
        f"script: {tmp_path / 'two'}: holds a run already; add --resume to go on, or choose another --out\n",
    ) and second == (0, "", "")


@pytest.mark.slow
def test_two_processes_distil_like_one_with_twice_the_batch(config_path, tiny_settings, tiny_teacher, street, tmp_path):
    """Masks that stop learning half way, too."""
    config = load_config(config_path.with_name("vexkd_teacher_small.yaml"), tiny_teacher)
    torch.manual_seed(0)
    save_package(tmp_path / "teacher", build_model(config), config, {}, {}, "test")
    settings = [
        *tiny_settings,
        SLOW,
        "training.epochs=2",
        "distillation.mask_stop_epoch=1",
        "distillation.mask_blocks=1",
        "distillation.mask_heads=2",
    ]
    done = finished(
        command(
            config_path, street, tmp_path / "two", settings, "--devices", "2", "--teacher", str(tmp_path / "teacher")
        )
    )
    assert done.returncode == 0, done.stderr
    distill(
        load_config(config_path, [*settings, "training.batch_size=2"]),
        tmp_path / "teacher",
        FrameIndex.open(street, "mini_train"),
        tmp_path / "one",
        0,
        False,
        False,
    )
    two, one = curves(tmp_path / "two"), curves(tmp_path / "one")
    assert two.keys() == one.keys() and len(one["loss"]) == 8
    assert len(one["loss/distill_low"]) == 8 and len(one["loss/mask_task_high"]) == 4
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, err_msg=name)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_both_processes_in_one_line(config_path, tiny_settings, street, tmp_path):
    run = tmp_path / "run"
    done = finished(
        command(config_path, street, run, [*tiny_settings, "training.learning_rate=1e30"], "--devices", "2")
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 2
    where, said = done.stderr.splitlines()
    assert where == f"{run}: on cpu, 32-true, 2 processes" and said.startswith(f"script: {run / NAN_BATCH}: loss (")
    stopped = json.loads((run / NAN_BATCH).read_text())
    assert stopped["step"] == 1 and len(set(stopped["tokens"])) == 2


def test_a_killed_and_resumed_training_ends_with_the_weights_of_one_never_killed(
    config_path, tiny_settings, street, tmp_path
):
    """Kill and resume a training whose samples a process loads ahead; the undisturbed one loads its own.

    Within a SLURM job of two tasks, of which nobody has started the other.
    """
    run, settings = tmp_path / "killed", [*tiny_settings, "training.epochs=3"]
    with subprocess.Popen(
        command(config_path, street, run, settings, "--workers", "1"),
        env=environment(**ALLOCATION),
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_for(lambda: process.poll() or (run / LAST_CHECKPOINT).is_file(), "the first epoch")
        written = steps_in(run)
        wait_for(lambda: process.poll() or steps_in(run) >= written + 2, "two more steps")
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert FRAMES < steps_in(run) < 2 * FRAMES  # in the second epoch
    train(load_config(config_path, settings), FrameIndex.open(street, "mini_train"), run, 1, True, False)
    alone(config_path, street, tmp_path / "straight", settings)
    resumed, straight = (load_run(folder)[0].state_dict() for folder in (run, tmp_path / "straight"))
    assert [name for name in straight if not torch.equal(resumed[name], straight[name])] == []
    assert len(list((run / "log").glob("version_*"))) == 2  # each part's own curve


def steps_in(run):
    """How many steps the log knows."""
    table = run / "log" / "version_0" / "metrics.csv"
    return sum("." in line.split(",")[1] for line in table.read_text().splitlines()[1:]) if table.is_file() else 0


def test_processes_that_cannot_be_are_named(monkeypatch):
    for numbers, option in (((0, 1), "--devices 0"), ((2, 0), "--nodes 0")):
        with pytest.raises(UserError, match=f"{option}: must be at least 1"):
            trainer_arguments(*numbers, idle_parameters=False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="--devices 2 --nodes 1: torchrun started 4 processes"):
        trainer_arguments(2, 1, idle_parameters=False)
    assert trainer_arguments(2, 2, idle_parameters=False)["num_nodes"] == 2


def test_a_job_of_slurm_is_no_step_of_several_tasks_until_srun_starts_one(monkeypatch):
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)
    for tasks in ({}, {"SLURM_STEP_NUM_TASKS": "1"}):  # as in a shell of `srun --pty`
        for name, value in tasks.items():
            monkeypatch.setenv(name, value)
        assert srun_step() is None
        assert [type(plugin) for plugin in trainer_arguments(1, 1, False)["plugins"]] == [LightningEnvironment]
    for name, value in step_variables(1).items():
        monkeypatch.setenv(name, value)
    assert srun_step() == (2, 1, 1, 1, 0)
    for devices in (1, 2):
        assert trainer_arguments(devices, 1, False)["devices"] == 2
    with pytest.raises(UserError, match="--devices 3 --nodes 1: srun started 2 processes on 1 node"):
        trainer_arguments(3, 1, False)
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    assert trainer_arguments(1, 1, False)["num_nodes"] == 2
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    with pytest.raises(UserError, match="3 processes on 2 nodes; give --ntasks-per-node"):
        trainer_arguments(1, 1, False)
    monkeypatch.setenv("SLURM_LOCALID", "")
    with pytest.raises(UserError, match="SLURM_LOCALID=: no number, though SLURM_STEP_NUM_TASKS=3"):
        trainer_arguments(1, 1, False)


def test_a_run_is_resumed_by_as_many_processes_as_began_it(tiny_config, tiny_index, tmp_path):
    for resume in (False, True):
        with claimed_run(tmp_path / "run", tiny_config, tiny_index, resume, {"processes": 2}):
            pass
    with (
        pytest.raises(UserError, match=r"run\.json: the run began with 2 processes, not 1"),
        claimed_run(tmp_path / "run", tiny_config, tiny_index, True, {"processes": 1}),
    ):
        pass

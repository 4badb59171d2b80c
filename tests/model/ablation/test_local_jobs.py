"""Runs side by side on one machine, with a shell script in the place of `python -m vexkd_model.cli`."""

import os
import sys
import time
from pathlib import Path

import pytest
from support.clock import wait_for

from vexkd_model.ablation import local_jobs
from vexkd_model.ablation.commands import Run
from vexkd_model.ablation.local_jobs import LocalJobs
from vexkd_model.ablation.plan import TrainedRow


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Let every command be executed by this shell script; its third argument is the command."""

    def use(lines):
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return use


@pytest.fixture
def run(tmp_path):
    def make(name):
        place = Path(tmp_path, name)
        return Run(
            TrainedRow(name=name, config=Path("model.yaml")),
            1,
            None,
            ("train", name),
            ("evaluate", name),
            place / "seed1",
            place / "seed1.json",
        )

    return make


def until_ended(jobs, count):
    ended = []
    wait_for(lambda: ended.extend(jobs.ended()) or len(ended) >= count, "the runs")
    return ended


def test_several_share_cores_and_gpus_and_a_lone_one_has_all(script, run, monkeypatch):
    script('echo "GPU $CUDA_VISIBLE_DEVICES, threads $OMP_NUM_THREADS"')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    a, b, c = map(run, "abc")
    cores = len(os.sched_getaffinity(0))
    with LocalJobs(2) as jobs:
        jobs.start(a)
        jobs.start(b)
        assert sorted(run.row.name for run, problem in until_ended(jobs, 2) if not problem) == ["a", "b"]
    assert [jobs.state(run) for run in (a, b)] == [f"GPU {gpu}, threads {max(1, cores // 2)}" for gpu in (3, 5)]
    with LocalJobs(1) as jobs:
        jobs.start(c)
        assert until_ended(jobs, 1) == [(c, "")] and jobs.state(c) == "GPU 3,5, threads"
    assert [line for line in c.log.read_text().splitlines() if line[0] == "#"] == [
        "# vexkd train c",
        "# vexkd evaluate c",
    ]


def test_a_failed_command_ends_its_run_with_its_own_words(script, run):
    script('echo "vexkd: $3: no such thing"; [ "$3" = evaluate ] || exit 1')
    a = run("a")
    with LocalJobs(1) as jobs:
        jobs.start(a)
        assert until_ended(jobs, 1) == [(a, "vexkd train failed: train: no such thing")]
    script("kill -9 $$")
    with LocalJobs(1) as jobs:
        jobs.start(a)
        assert until_ended(jobs, 1) == [(a, "vexkd train was killed by SIGKILL")]


def test_at_the_end_all_are_interrupted_together_and_a_deaf_one_is_killed(script, run, monkeypatch):
    monkeypatch.setattr(local_jobs, "STOP_S", 3.0)  # enough for the one that hears, beside other work
    # `sleep 60 & wait` would miss a signal that arrives just before `wait` begins to listen.
    lines = '[ "$4" = deaf ] && trap "" INT || trap "echo stopped; exit 130" INT; echo ready'
    script(f"{lines}; while :; do sleep 0.1; done")
    hearing, deaf = run("hearing"), run("deaf")
    began = time.monotonic()
    with LocalJobs(2) as jobs:
        jobs.start(hearing)
        jobs.start(deaf)
        wait_for(lambda: [jobs.state(run) for run in (hearing, deaf)] == ["ready"] * 2, "both")
    assert time.monotonic() - began < 30 and (jobs.state(hearing), jobs.state(deaf)) == ("stopped", "ready")
    assert jobs.ended() == [(hearing, "vexkd train failed: stopped"), (deaf, "vexkd train was killed by SIGKILL")]

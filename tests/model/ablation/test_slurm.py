"""Trainings on a real SLURM cluster of one node: two tasks of srun, and a plan's runs as jobs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.clock import wait_for

from vexkd_model.cli import main
from vexkd_model.training.run import LAST_CHECKPOINT

REPOSITORY = Path(__file__).parents[3]
NODE = REPOSITORY / "tests" / "support" / "slurm_node.sh"
DEADLINE_S = 280
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun")
SLURM = all(shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") for program in PROGRAMS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Environment of a process that uses a cluster of its own."""
    if not SLURM or os.geteuid() != 0:
        pytest.skip(f"needs root and the packages that {NODE.name} names")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([NODE, "start", folder], check=True)
    yield os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}",
    }
    subprocess.run(["scancel", "--user", "root"], env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf")})
    subprocess.run([NODE, "stop", folder], check=True)


def vexkd(*words):
    return [sys.executable, "-m", "vexkd_model.cli", *map(str, words)]


@pytest.mark.slow
def test_srun_trains_one_model_with_two_processes(cluster, plan_values, tmp_path):
    row, run = plan_values["rows"][1], tmp_path / "run"
    words = vexkd(
        "train",
        row["config"],
        "--dataroot",
        plan_values["dataroot"],
        "--version",
        plan_values["version"],
        "--out",
        run,
        "--workers",
        0,
        "--set",
        "training.epochs=1",
    )
    done = subprocess.run(["srun", "-n", "2", *words], env=cluster, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "run.json").read_text())["processes"] == 2 and (run / LAST_CHECKPOINT).is_file()
    assert done.stdout.count("trained; next") == 1 and done.stderr.count("epoch 1/1 step 1/1") == 1


@pytest.mark.slow
def test_jobs_outlive_the_command_and_a_cancelled_one_resumes(cluster, plan_values, written, tmp_path):
    pytest.importorskip("submitit")
    teacher, plain, _, without = plan_values["rows"]
    plan = written(rows=[{**plain, "set": {"training.epochs": 40}}, teacher, without], seeds=[1], baseline=None)
    out, words = tmp_path / "out", vexkd("ablate", plan, "--out", tmp_path / "out", "--slurm", 10, "--sbatch", "mem=0")
    jobs, plain_log = out / "slurm", out / "plain" / "seed1.log"

    with subprocess.Popen(words, env=cluster, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as killed:
        wait_for(lambda: killed.poll() or (out / "plain" / "seed1" / LAST_CHECKPOINT).is_file(), "an epoch", DEADLINE_S)
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL and len(list(jobs.glob("*_submission.sh"))) == 3
    number = next(path.name.partition("_")[0] for path in jobs.glob("*_submission.sh") if "plain" in path.read_text())
    subprocess.run(["scancel", number], env=cluster, check=True)
    wait_for(
        lambda: all((out / row / "seed1.json").is_file() for row in ("teacher", "teacher_without_lidar")),
        "the jobs that nobody waits for",
        DEADLINE_S,
    )

    again = subprocess.run(words, env=cluster, capture_output=True, text=True, timeout=DEADLINE_S)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count(" begins, ") == 1 and len(list(jobs.glob("*_submission.sh"))) == 4
    trainings = [line for line in plain_log.read_text().splitlines() if line.startswith("# vexkd train")]
    assert len(trainings) == 2 and trainings[1].endswith(" --resume")
    assert [line.split(" | ")[1] for line in (out / "table.md").read_text().splitlines()[2:]] == ["1 of 1"] * 3


def test_what_a_cluster_lacks_is_one_line_before_anything_runs(written, tmp_path, monkeypatch):
    def failure(*options):
        with pytest.raises(SystemExit) as error:
            main(["ablate", str(written()), "--out", str(tmp_path / "out"), *options])
        return error.value.code

    assert failure("--sbatch", "partition=gpu") == "vexkd: --sbatch partition=gpu: belongs to --slurm MINUTES"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "submitit", None)
        without.delitem(sys.modules, "vexkd_model.ablation.slurm_jobs", raising=False)
        assert failure("--slurm", "60") == "vexkd: --slurm: submitit is not installed; pip install submitit"
    pytest.importorskip("submitit")
    assert failure("--slurm", "2") == "vexkd: --slurm 2: a job needs at least 5 minutes to begin and to end"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert failure("--slurm", "60").startswith("vexkd: --slurm: no srun on this machine")

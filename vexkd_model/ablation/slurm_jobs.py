"""Runs of an ablation as jobs of a SLURM cluster, which go on while nobody waits for them."""

import getpass
import hashlib
import logging
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission, FailedJobError

from vexkd_model.ablation.commands import Run
from vexkd_model.ablation.local_jobs import RunProcess, last_line
from vexkd_model.errors import UserError

FOLDER = "slurm"
MIN_MINUTES = 5  # SLURM announces the end of a job 90 s ahead, to the minute
MAX_TIMEOUTS = 50  # of one job: more than any training needs, but not for ever where no epoch fits into the time limit
GONE_LOOKS = 2  # a shared file system shows the last file of a job a moment after SLURM forgets the job


class RunInJob:
    """Run, executed by a job; where SLURM ends the job for time or another job, it goes on in the job's next start."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self) -> None:
        process = RunProcess(self._run, dict(os.environ))
        try:
            while (outcome := process.outcome()) is None:
                time.sleep(0.5)
        finally:
            process.end()
        if outcome:
            raise RuntimeError(outcome)

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit executes in the job's next start."""
        return DelayedSubmission(RunInJob(self._run))


class SlurmJobs:
    """Runs as jobs, which stay in the cluster's queue when the block ends, and are found there again.

    minutes: time limit of a job, after which it starts again. options: of sbatch, as key=value strings, or a key alone.
    at_once: jobs in the queue.
    """

    interval_s = 5.0
    begins_before_base = True

    def __init__(self, out: Path, minutes: int, options: Sequence[str], at_once: int) -> None:
        if minutes < MIN_MINUTES:
            raise UserError(f"--slurm {minutes}: a job needs at least {MIN_MINUTES} minutes to begin and to end")
        self.at_once = at_once
        self._options = dict(_option(option) for option in options)
        self._folder, self._minutes = (out / FOLDER).resolve(), minutes
        self._queue: dict[str, tuple[str, str]] = {}  # by name of the job: its number, its state
        self._running: dict[str, Run] = {}  # by number of the job
        self._missed: dict[str, int] = {}  # by number of the job: in how many looks it was absent
        logging.getLogger("submitit").setLevel(logging.ERROR)

    @property
    def resumes(self) -> str:
        numbers = " ".join(self._running)
        return (
            f"its jobs stay in SLURM's queue, and the same command waits for them again; `scancel {numbers}` ends them"
        )

    def __enter__(self) -> "SlurmJobs":
        try:
            self._executor = submitit.SlurmExecutor(self._folder, max_num_timeout=MAX_TIMEOUTS)
        except RuntimeError:
            raise UserError(
                "--slurm: no srun on this machine; start it where sbatch and srun are, or leave --slurm out"
            ) from None
        queue = _read_queue()
        if queue is None:
            raise UserError("--slurm: squeue does not answer; see that SLURM runs (`sinfo`)")
        self._queue = queue
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the jobs to SLURM."""

    def start(self, run: Run) -> None:
        """Submit a run, to begin after the job of the run that it builds on; a job that is there already is kept."""
        name = _job_name(run)
        number = self._queue[name][0] if name in self._queue else self._submit(run, name)
        self._running[number] = run

    def _submit(self, run: Run, name: str) -> str:
        base = next((number for number, other in self._running.items() if other == run.base), None)
        after = {"dependency": f"afterok:{base}", "kill-on-invalid-dep": "yes"} if base else {}
        self._executor.update_parameters(
            job_name=name, time=self._minutes, wckey=None, additional_parameters={**self._options, **after}
        )
        try:
            return self._executor.submit(RunInJob(run)).job_id
        except FailedJobError as error:
            reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise UserError(
                f"--slurm: sbatch refused {run.name}: {reason[0].removeprefix('sbatch: error: ')}; correct "
                "--sbatch, or submit fewer at once by --jobs"
            ) from None

    def ended(self) -> list[tuple[Run, str]]:
        """Return the runs that have ended since the last call, each with the reason if it failed, otherwise "".

        Figures are the last that a run writes; without them, it has failed when SLURM no longer knows its job.
        """
        queue = _read_queue()
        if queue is None:  # it is busy, or restarts: jobs go on meanwhile
            return []
        self._queue = queue
        present = {number for number, _ in queue.values()}
        self._missed = {number: self._missed.get(number, 0) + 1 for number in self._running if number not in present}
        over = [
            number for number, run in self._running.items() if run.finished or self._missed.get(number, 0) >= GONE_LOOKS
        ]
        return [(self._running[number], self._end(number)) for number in over]

    def _end(self, number: str) -> str:
        run = self._running.pop(number)
        if run.finished:
            return ""
        if run.base is not None and not run.base.finished and run.base not in self._running.values():
            return f"not begun, because {run.base.name} has failed"
        log = submitit.SlurmJob(self._folder, number).paths.stderr
        reason = last_line(log, skip=("srun: ", "submitit ")).removeprefix("RuntimeError: ")
        return f"job {number}: {reason or 'ended without figures'} ({log})"

    def state(self, run: Run) -> str:
        """Describe a run now: the last line of its log while it runs, or else its job's number and state."""
        number, state = self._queue.get(_job_name(run), ("", "has ended"))
        said = last_line(run.log) if state.startswith("RUNNING") else ""
        return said or f"job {number}: {state}"


def _option(text: str) -> tuple[str, Any]:
    key, separator, value = text.removeprefix("--").partition("=")
    return key, value if separator else True


def _job_name(run: Run) -> str:
    """Name of a run's job, different for every --out."""
    place = hashlib.sha256(str(run.figures.resolve()).encode()).hexdigest()[:10]
    return f"vexkd-{run.row.name}-seed{run.seed}-{place}"


def _read_queue() -> dict[str, tuple[str, str]] | None:
    """Return number and state of this user's jobs that wait or run, by name; None if SLURM does not answer."""
    asked = subprocess.run(
        ["squeue", "--user", getpass.getuser(), "--noheader", "--format", "%j|%A|%T (%r)"],
        capture_output=True,
        text=True,
    )
    if asked.returncode:
        return None
    jobs = (line.split("|") for line in asked.stdout.splitlines())
    return {name: (number, state) for name, number, state in jobs}

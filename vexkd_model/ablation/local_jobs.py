"""Runs of an ablation as processes of this machine, a number of them side by side."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from vexkd_model.ablation.commands import Run

STOP_S = 60.0  # from SIGINT to SIGKILL: a training that is asked to stop finishes its step
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1


class RunProcess:
    """Commands of a run, one after the other, each in a process of its own that writes to the run's log.

    A process has a session of its own: on a terminal, Ctrl-C would reach its loaders too, and all of them twice.
    """

    def __init__(self, run: Run, environment: dict[str, str]) -> None:
        self._log, self._environment = run.log, environment
        self._left = list(run.commands())
        self._begin()

    def _begin(self) -> None:
        self._words = self._left.pop(0)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:
            print("#", "vexkd", *self._words, file=log, flush=True)
            self._child = subprocess.Popen(
                [sys.executable, "-m", "vexkd_model.cli", *self._words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def outcome(self) -> str | None:
        """Return None while a command runs, the reason if one has failed, and an empty string at the end."""
        status = self._child.poll()
        if status == 0 and self._left:
            self._begin()
            return None
        if not status:
            return None if status is None else ""
        if status < 0:
            return f"vexkd {self._words[0]} was killed by {signal.Signals(-status).name}"
        return f"vexkd {self._words[0]} failed: {last_line(self._log).removeprefix('vexkd: ')}"

    def interrupt(self) -> None:
        self._left.clear()
        self._child.send_signal(signal.SIGINT)

    def end(self, patience_s: float = 0.0) -> None:
        """Wait for the process to end, and kill it where it takes longer."""
        try:
            self._child.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def _end_with_parent() -> None:
    """Let the kernel end this child process with its parent, so that the next ablation resumes the run alone.

    Of SIGUSR2, which SLURM sends to all processes of a job before it ends it, only the parent makes use. SIGINT,
    by which the parent ends it, may be ignored where the parent was begun in the background of a shell.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def last_line(log: Path, skip: tuple[str, ...] = ()) -> str:
    """Return the last line of a log that is not empty and begins with none of `skip`; an empty string without any."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith(skip)), "")


class LocalJobs:
    """At most `at_once` runs as processes of this machine, which end with the block.

    Several share its cores and GPUs: each gets its part of the threads, and a GPU in turn.
    """

    interval_s = 0.1
    begins_before_base = False
    resumes = "the same command goes on"

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._gpus = _visible_gpus() if at_once > 1 else []
        self._running: dict[int, tuple[Run, RunProcess]] = {}  # by slot

    def __enter__(self) -> "LocalJobs":
        return self

    def __exit__(self, *_: object) -> None:
        """Interrupt what runs, after Ctrl-C or an error, and wait for it; a second Ctrl-C kills it."""
        processes = [process for _, process in self._running.values()]
        deadline = time.monotonic() + STOP_S
        try:
            for process in processes:
                process.interrupt()
            for process in processes:
                process.end(deadline - time.monotonic())
        finally:
            for process in processes:
                process.end()

    def start(self, run: Run) -> None:
        slot = next(slot for slot in range(self.at_once) if slot not in self._running)
        self._running[slot] = run, RunProcess(run, self._environment(slot))

    def ended(self) -> list[tuple[Run, str]]:
        """Return the runs that have ended since the last call, each with the reason if it failed, otherwise ""."""
        outcomes = [(slot, run, process.outcome()) for slot, (run, process) in self._running.items()]
        for slot, _, outcome in outcomes:
            if outcome is not None:
                del self._running[slot]
        return [(run, outcome) for _, run, outcome in outcomes if outcome is not None]

    def state(self, run: Run) -> str:
        """Return the last line of the run's log."""
        return last_line(run.log)

    def _environment(self, slot: int) -> dict[str, str]:
        if self.at_once == 1:
            return dict(os.environ)
        threads = max(1, len(os.sched_getaffinity(0)) // self.at_once)
        gpu = {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if len(self._gpus) > 1 else {}
        return {"OMP_NUM_THREADS": str(threads), **os.environ, **gpu}


def _visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES lists them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]

"""Run a plan, several runs side by side; finished ones are skipped, interrupted ones resumed."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vexkd_model.ablation.commands import Run, runs_of
from vexkd_model.ablation.plan import Plan
from vexkd_model.ablation.records import Records
from vexkd_model.ablation.row_version import check_version, write_version
from vexkd_model.ablation.run_queue import RunQueue
from vexkd_model.ablation.table import write_tables
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.errors import Interrupted, UserError
from vexkd_model.files import locked

PROGRESS_S = 30.0


class Jobs(Protocol):
    """Place where runs are executed, `LocalJobs` or `SlurmJobs`.

    at_once: number of runs that may be started and not ended. begins_before_base: takes a run while the one that it
    builds on is not finished, and waits itself. interval_s: between two looks. resumes: what to do after Ctrl-C.
    """

    at_once: int
    begins_before_base: bool
    interval_s: float

    @property
    def resumes(self) -> str: ...

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> object: ...

    def start(self, run: Run) -> None: ...

    def ended(self) -> list[tuple[Run, str]]:
        """Return the runs that have ended since the last call, each with the reason if it failed, otherwise ""."""
        ...

    def state(self, run: Run) -> str:
        """Describe in one line how far a run is."""
        ...


def unfinished_runs(plan: Plan, out: Path, records: Records) -> list[Run]:
    """List the runs that are left to do, in an order in which they can run.

    UserError if `out` or the records hold runs of another version of a row, or if a run builds on a finished one whose
    folder is gone.
    """
    runs = runs_of(plan, out)
    for run in runs:
        check_version(plan, run)
    recorded = [run for run in runs if records.find(run)]
    unfinished = [run for run in runs if not run.finished and run not in recorded]
    records.check_bases(unfinished)
    return unfinished


def ablate(plan: Plan, out: Path, records: Records, jobs: Jobs) -> None:
    """Run the unfinished runs; write the record and the tables after each of them.

    UserError at the end if a run failed, and on Ctrl-C.
    """
    for split in plan.splits:
        FrameIndex.open(index_folder(plan.dataroot, plan.version), split, plan.dataroot, plan.version)
    with locked(out / ".lock", f"{out}: another vexkd ablate is at work in it; wait for it or choose another --out"):
        runs = unfinished_runs(plan, out, records)
        records.write_outline()
        _record_earlier(plan, out, records)
        write_tables(plan, out, records)
        queue = RunQueue(runs, jobs.at_once, jobs.begins_before_base)
        try:
            with jobs:
                _execute(plan, out, records, jobs, queue)
        except KeyboardInterrupt:
            during = " in " + " and ".join(run.name for run in queue.running) if queue.running else ""
            raise Interrupted(f"{out}: interrupted{during}; {jobs.resumes}") from None
    if queue.failed:
        names = "; ".join(f"{run.name}: {run.log}" if run.log.is_file() else run.name for run in queue.failed)
        raise UserError(
            f"{out}: {len(queue.failed)} of {len(runs)} runs failed ({names}); the same command tries them again"
        )


def _execute(plan: Plan, out: Path, records: Records, jobs: Jobs, queue: RunQueue) -> None:
    progress = _Progress(jobs)
    while queue.waiting or queue.running:
        while run := queue.begin():
            _say(run, f"begins, {len(queue.waiting)} wait; log: {run.log}")
            write_version(plan, run)
            jobs.start(run)
        time.sleep(jobs.interval_s)
        for run, problem in jobs.ended():
            problem = problem or _record(run, records)
            _say(run, problem or "finished")
            for other in queue.end(run, failed=bool(problem)):
                _say(other, f"not begun, because {run.name} has failed")
            write_tables(plan, out, records)
        progress.show(queue.running)


def _record_earlier(plan: Plan, out: Path, records: Records) -> None:
    """Record finished runs without a record: of an earlier version, or of another plan with the same row."""
    for run in runs_of(plan, out):
        if run.finished and not records.path(run).exists() and (problem := _record(run, records)):
            _say(run, f"finished, but without a record: {problem}")


def _record(run: Run, records: Records) -> str:
    """Write the record of a run; return the reason if that fails, otherwise an empty string."""
    try:
        records.write(run)
    except UserError as error:
        return str(error)
    return ""


def _say(run: Run, text: str) -> None:
    print(f"ablate: {run.name}: {text}", file=sys.stderr, flush=True)


class _Progress:
    """Print how far each run is, now and then, where that has changed."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._shown: dict[str, str] = {}
        self._shown_at = time.monotonic()

    def show(self, running: Sequence[Run]) -> None:
        if time.monotonic() - self._shown_at < PROGRESS_S:
            return
        self._shown_at = time.monotonic()
        for run in running:
            state = self._jobs.state(run)
            if self._shown.get(run.name) != state:
                self._shown[run.name] = state
                _say(run, state)

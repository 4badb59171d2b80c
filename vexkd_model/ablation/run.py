"""Run a plan, one process per training and evaluation; finished runs are skipped, interrupted ones resumed."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vexkd_model.ablation.commands import Run, runs_of
from vexkd_model.ablation.plan import Plan
from vexkd_model.ablation.records import Records
from vexkd_model.ablation.row_version import check_version, write_version
from vexkd_model.ablation.table import write_tables
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.errors import Interrupted, UserError
from vexkd_model.files import locked

STOP_S = 60.0  # from SIGINT to SIGKILL: a training that is asked to stop finishes its step
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1


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


def ablate(plan: Plan, out: Path, records: Records) -> None:
    """Run the unfinished runs; write the record and the tables after each of them.

    UserError at the end if a run failed, and on Ctrl-C.
    """
    for split in plan.splits:
        FrameIndex.open(index_folder(plan.dataroot, plan.version), split, plan.dataroot, plan.version)
    with locked(out / ".lock", f"{out}: another vexkd ablate is at work in it; wait for it or choose another --out"):
        runs, failed = unfinished_runs(plan, out, records), []
        records.write_outline()
        _record_earlier(plan, out, records)
        write_tables(plan, out, records)
        for i, run in enumerate(runs):
            _say(f"{run.name} ({i + 1} of {len(runs)})")
            try:
                problem = _execute(plan, run, failed) or _record(run, records)
            except KeyboardInterrupt:
                raise Interrupted(f"{out}: interrupted in {run.name}; the same command goes on") from None
            if problem:
                _say(f"{run.name}: {problem}")
                failed.append(run.name)
            write_tables(plan, out, records)
    if failed:
        raise UserError(f"{out}: {len(failed)} of {len(runs)} runs failed ({'; '.join(failed)}); "
                        "the same command tries them again")


def _record_earlier(plan: Plan, out: Path, records: Records) -> None:
    """Record finished runs without a record: of an earlier version, or of another plan with the same row."""
    for run in runs_of(plan, out):
        if run.finished and not records.path(run).exists() and (problem := _record(run, records)):
            _say(f"{run.name}: finished, but without a record: {problem}")


def _record(run: Run, records: Records) -> str:
    """Write the record of a run; return the reason if that fails, otherwise an empty string."""
    try:
        records.write(run)
    except UserError as error:
        return str(error)
    return ""


def _execute(plan: Plan, run: Run, failed: Sequence[str]) -> str:
    """Execute the commands of a run; return the reason if one fails, otherwise an empty string."""
    if run.base and run.base.name in failed and not run.base.finished:
        return f"not begun, because {run.base.name} has failed"
    write_version(plan, run)
    for words in run.commands():
        status = _vexkd(words)
        if status:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else "failed; its message is above"
            return f"vexkd {words[0]} {how}"
    return ""


def _vexkd(words: Sequence[str]) -> int:
    """Run `vexkd WORDS` and return its exit status, negative for a signal.

    In a session of its own: on a terminal, Ctrl-C would reach its loaders too, and all of them twice.
    """
    child = subprocess.Popen([sys.executable, "-m", "vexkd_model.cli", *words], stdin=subprocess.DEVNULL,
                             start_new_session=True, preexec_fn=_end_with_parent)
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
        raise
    finally:
        child.kill()


def _end_with_parent() -> None:
    """Let the kernel end this child process with its parent, so that the next ablation resumes the run alone."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _say(line: str) -> None:
    print(f"ablate: {line}", file=sys.stderr, flush=True)

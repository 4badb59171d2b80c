"""Order in which the runs of a plan are executed, several at once."""

from collections.abc import Sequence

from vexkd_model.ablation.commands import Run


class RunQueue:
    """Runs that wait, run, or have failed.

    at_once: how many may run. begins_before_base: a run may begin while the one that it builds on runs.
    """

    def __init__(self, runs: Sequence[Run], at_once: int, begins_before_base: bool) -> None:
        self.waiting, self.running, self.failed = list(runs), [], []
        self._at_once, self._begins_before_base = at_once, begins_before_base

    def begin(self) -> Run | None:
        """Move the first run that may begin now from the waiting to the running ones, and return it."""
        unready = self.waiting if self._begins_before_base else self.waiting + self.running
        if len(self.running) == self._at_once:
            return None
        run = next((run for run in self.waiting if run.base not in unready), None)
        if run is not None:
            self.waiting.remove(run)
            self.running.append(run)
        return run

    def end(self, run: Run, failed: bool) -> list[Run]:
        """Remove a running one; return those that wait and can no longer begin, because they build on a failed one.

        An evaluation that was written stays a base, even if the run's record could not be.
        """
        self.running.remove(run)
        if not failed:
            return []
        self.failed.append(run)
        hopeless = [] if run.finished else [other for other in self.waiting if other.base == run]
        for other in hopeless:
            self.waiting.remove(other)
            self.failed.append(other)
            hopeless += [further for further in self.waiting if further.base == other]
        return hopeless

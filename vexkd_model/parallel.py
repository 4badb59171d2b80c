"""Process pool: one function over many jobs, with little memory and a clean end.

Not joblib's Parallel: it takes all jobs from the iterable however slowly the results are read, and its workers outlive
a killed parent.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vexkd_model.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
WAITING_JOBS = 2  # for each process: enough that none idles, few enough that jobs do not pile up in memory


def in_parallel(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, option: str = "--workers"
) -> Iterator[Result]:
    """Yield function(job) in the order of the jobs; with one worker, in this process.

    Jobs are taken from the iterable only shortly before they run. option: what the user calls `workers`.
    """
    if workers < 1:
        raise UserError(f"{option} {workers}: must be at least 1")
    if workers == 1:
        yield from map(function, jobs)
        return
    # Spawned, not forked: a fork would copy the tables that the parent holds, and threads do not survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        running = deque()
        try:
            for job in jobs:
                running.append(pool.submit(function, job))
                if len(running) > WAITING_JOBS * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool:
            raise UserError(f"{option}: a process was killed, perhaps for memory; the same command continues") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Make this worker ignore Ctrl-C, which the parent handles, and end when the parent ends, however that happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker has one"

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Process pool: results in the order of the jobs, and a clean end whatever happens."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vexkd_model.errors import UserError
from vexkd_model.parallel import WAITING_JOBS, in_parallel


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs_and_jobs_are_taken_late(workers):
    taken = []

    def jobs():
        for number in range(30):
            taken.append(number)
            yield number

    for done, result in enumerate(in_parallel(math.factorial, jobs(), workers)):
        assert result == math.factorial(done)
        assert len(taken) <= done + 2 + WAITING_JOBS * workers


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_a_job_is_the_callers(workers):
    with pytest.raises(ValueError, match="factorial"):
        list(in_parallel(math.factorial, [3, -1, 4], workers))


def test_a_killed_process_is_one_line():
    with pytest.raises(UserError, match="a process was killed"):
        list(in_parallel(os._exit, [1], 2))


def test_there_must_be_a_worker():
    with pytest.raises(UserError, match="--workers 0"):
        list(in_parallel(math.factorial, [1], 0))


def alive(process):
    """Check whether a process runs; an ended one that nobody waited for is a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\nfrom vexkd_model.parallel import in_parallel\n\n"
        "def job(i):\n    os.write(1, b'%d\\n' % os.getpid())\n    time.sleep(60)\n\n"
        "if __name__ == '__main__':\n    list(in_parallel(job, range(2), 2))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    workers = {int(parent.stdout.readline()) for _ in range(2)}
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2 and not any(map(alive, workers))

"""Process pool: results in the order of the jobs, and a clean end whatever happens."""

import math
import os

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

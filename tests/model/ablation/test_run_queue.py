"""Order of runs that are executed side by side: none before the one that it builds on, none after that has failed."""

from pathlib import Path

import pytest

from vexkd_model.ablation.commands import Run
from vexkd_model.ablation.plan import EvaluatedRow
from vexkd_model.ablation.run_queue import RunQueue


@pytest.fixture
def chain(tmp_path):
    """A teacher, its student, the student without LiDAR, and a plain student beside them."""

    def run(name, base=None):
        place = Path(tmp_path, name)
        return Run(EvaluatedRow(name=name, of="teacher", drop="lidar"), 1, base, (), (), place, place / "seed1.json")

    teacher = run("teacher")
    student = run("student", teacher)
    return teacher, student, run("student_without_lidar", student), run("plain")


def begun(queue):
    runs = []
    while run := queue.begin():
        runs.append(run)
    return runs


def test_a_run_waits_for_the_one_that_it_builds_on_while_others_overtake_it(chain):
    teacher, student, without, plain = chain
    queue = RunQueue(chain, 2, begins_before_base=False)
    assert begun(queue) == [teacher, plain]
    assert queue.end(plain, failed=False) == [] and begun(queue) == []
    queue.end(teacher, failed=False)
    assert begun(queue) == [student]
    queue.end(student, failed=False)
    assert begun(queue) == [without] and not queue.waiting and not queue.failed


def test_one_at_a_time_keeps_the_order_of_the_plan(chain):
    queue, order = RunQueue(chain, 1, begins_before_base=False), []
    while queue.waiting:
        order += (one := begun(queue))
        assert len(one) == 1 and queue.end(*one, failed=False) == []
    assert order == list(chain)


def test_all_that_builds_on_a_failed_run_fails_with_it_and_nothing_else(chain):
    teacher, student, without, plain = chain
    queue = RunQueue(chain, 1, begins_before_base=False)
    begun(queue)
    assert queue.end(teacher, failed=True) == [student, without]
    assert queue.failed == [teacher, student, without] and begun(queue) == [plain]


def test_a_run_with_figures_but_without_a_record_is_built_upon(chain):
    teacher, student, *_ = chain
    queue = RunQueue(chain, 1, begins_before_base=False)
    begun(queue)
    teacher.figures.parent.mkdir()
    teacher.figures.touch()
    assert queue.end(teacher, failed=True) == [] and begun(queue) == [student]


def test_a_scheduler_takes_runs_before_those_that_they_build_on_are_finished(chain):
    assert begun(RunQueue(chain, 4, begins_before_base=True)) == list(chain)
    assert begun(RunQueue(chain, 2, begins_before_base=True)) == list(chain[:2])

"""Velocities that are joined to detections: how long these wait for them, and what is said about it."""

import numpy as np
import pytest
from support.clock import ManualClock

from vexkd_ros.inputs.measured_velocities import KEPT, SILENT, WAIT_S, MeasuredVelocities

SPEEDS = np.float32([[1.0, 2.0], [3.0, 4.0]])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def velocities(clock, said) -> MeasuredVelocities:
    return MeasuredVelocities("/student_node/velocities", said.append, clock)


def test_detections_wait_for_velocities_only_while_they_come_and_never_longer_than_stated(velocities, clock):
    assert velocities.wait_s(1, clock()) == 0 and velocities.take(1, 2) is None
    velocities.add(1, SPEEDS)  # too late for its detections
    received = clock()
    assert velocities.wait_s(2, received) == pytest.approx(WAIT_S)
    clock.advance(0.02)
    assert velocities.wait_s(2, received) == pytest.approx(WAIT_S - 0.02)
    velocities.add(2, SPEEDS)
    assert velocities.wait_s(2, received) == 0
    np.testing.assert_array_equal(velocities.take(2, 2), SPEEDS)
    received = clock()
    clock.advance(WAIT_S)
    assert velocities.wait_s(3, received) == 0 and velocities.take(3, 2) is None
    assert velocities.wait_s(4, clock()) == 0


def test_velocities_that_are_not_one_a_detection_are_not_taken(velocities):
    velocities.add(1, SPEEDS)
    assert velocities.take(1, 3) is None


def test_what_nobody_takes_is_forgotten(velocities, clock):
    for stamp in range(KEPT + 1):
        velocities.add(stamp, SPEEDS)
    assert velocities.take(0, 2) is None
    assert velocities.take(1, 2) is not None and velocities.take(KEPT, 2) is not None


def test_it_is_said_once_which_velocities_are_used_and_when_that_changes(velocities, said):
    for stamp in range(3):
        velocities.add(stamp, SPEEDS)
        velocities.take(stamp, 2)
    assert said == ["takes measured velocities from /student_node/velocities"]
    for stamp in range(3, 3 + 2 * SILENT):
        velocities.take(stamp, 2)
    assert said[1:] == ["no velocities on /student_node/velocities: they are found from positions alone"]
    velocities.add(100, SPEEDS)
    velocities.take(100, 2)
    assert said[2:] == said[:1]

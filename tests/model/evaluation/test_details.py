"""Errors by distance and by speed, of boxes whose errors are known."""

import numpy as np
import pytest
from test_detection_metrics import CAR, prediction

from vexkd_model.evaluation.details import DetailCounter, Details
from vexkd_model.types import DETECTION_CLASSES, Boxes

BARRIER = DETECTION_CLASSES.index("barrier")


def cars(*rows):
    """Boxes of cars at (x, yaw, vx)."""
    values = np.array([[x, 0, 0, 4, 2, 1.5, yaw, vx, 0] for x, yaw, vx in rows], np.float32)
    return Boxes(values, np.full(len(rows), CAR))


def details(truth, found, scores=None):
    counter = DetailCounter()
    scores = np.full(len(found), 0.5) if scores is None else scores
    counter.update(prediction("a", found.values, found.labels, scores), truth)
    return counter.result()


def test_a_band_holds_the_mean_errors_of_what_was_found_there():
    truth = cars((5, 0.0, 0.0), (8, 0.0, 3.0), (35, 3.0, 12.0))
    found = cars((5.5, 0.1, 0.2), (8, -0.3, 4.0), (35, -3.0, 12.0))
    made = details(truth, found)
    near, *between, far = made.by_distance[:1] + made.by_distance[3:4]
    assert not between and (near.low, near.high, near.truth, near.found) == (0, 10, 2, 2)
    assert near.heading == pytest.approx(0.2, abs=1e-3) and near.velocity == pytest.approx(0.6, abs=1e-3)
    assert far.heading == pytest.approx(2 * np.pi - 6, abs=1e-3)  # the short way round
    assert [band.truth for band in made.by_speed] == [1, 0, 1, 0, 1] and made.by_speed[-1].high is None


def test_a_miss_has_no_errors_and_neither_has_an_unknown_velocity():
    truth = cars((15, 0.0, np.nan), (25, 0.0, 1.0))
    made = details(truth, cars((15, 0.5, 3.0), (28, 0.0, 1.0)))
    found, missed = made.by_distance[1:3]
    assert (found.found, found.velocity) == (1, None) and found.heading == pytest.approx(0.5, abs=1e-3)
    assert (missed.truth, missed.found, missed.heading) == (1, 0, None)
    assert sum(band.truth for band in made.by_speed) == 1


def test_the_curve_of_a_class_falls_where_its_false_alarms_begin():
    truth = cars((10, 0, 0), (20, 0, 0))
    curve = details(truth, cars((10, 0, 0), (30, 0, 0), (20, 0, 0)), np.array([0.9, 0.8, 0.7])).precision["car"]
    assert len(curve) == 101 and curve[40] == 1.0
    assert curve[100] == pytest.approx(2 / 3, abs=1e-3)


def test_barriers_have_no_front_to_be_wrong_about():
    barrier = Boxes(cars((5, 0, 0)).values, np.array([BARRIER]))
    made = details(barrier, barrier)
    assert sum(band.truth for band in made.by_distance) == 0 and made.precision["barrier"][50] == 1.0


def test_details_read_back_equal():
    made = details(cars((5, 0.0, 0.0)), cars((5, 0.1, 0.2)))
    assert Details.of_dict(made.to_dict()) == made

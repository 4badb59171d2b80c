"""Sources of errors of detections that are wrong in one known way."""

import numpy as np
import pytest
from test_detection_metrics import BUS, CAR, prediction

from vexkd_model.evaluation.error_sources import ErrorCounter
from vexkd_model.evaluation.report import errors_table
from vexkd_model.types import DETECTION_CLASSES, Boxes

TRUCK, BARRIER = DETECTION_CLASSES.index("truck"), DETECTION_CLASSES.index("barrier")
KINDS = ("class_right", "place_right", "no_background", "none_missed")


def boxes(*rows):
    """Boxes at (label, x, yaw, vx)."""
    values = np.array([[x, 0, 0, 4, 2, 1.5, yaw, vx, 0] for _, x, yaw, vx in rows], np.float32)
    return Boxes(values.reshape(-1, 9), np.array([row[0] for row in rows], int))


def sources(truth, found, scores=None):
    counter = ErrorCounter()
    scores = np.linspace(0.9, 0.1, len(found)) if scores is None else scores
    counter.update(prediction("a", found.values, found.labels, scores), truth)
    return counter.result()


def gains(made, name):
    return {kind: getattr(made, kind)[name] - made.as_found[name] for kind in KINDS}


def test_perfect_detections_gain_nothing():
    street = boxes((CAR, 10, 0, 0), (BUS, 20, 1, 5))
    made = sources(street, street)
    assert made.as_found["car"] == made.as_found["bus"] == pytest.approx(1.0)
    assert set(gains(made, "car").values()) == set(gains(made, "bus").values()) == {0.0}


def test_a_wrong_class_is_mended_by_the_right_one_alone():
    made = sources(boxes((TRUCK, 10, 0, 0)), boxes((BUS, 10.3, 0, 0)))
    assert made.as_found["truck"] == 0.0
    assert gains(made, "truck") == {
        "class_right": pytest.approx(1.0),
        "place_right": 0.0,
        "no_background": 0.0,
        "none_missed": 0.0,
    }


def test_a_second_box_on_an_object_counts_as_an_error_of_class():
    found = boxes((TRUCK, 10.3, 0, 0), (CAR, 10, 0, 0))  # the better one is no car
    made = sources(boxes((CAR, 10, 0, 0)), found)
    assert made.as_found["car"] == pytest.approx(1.0) and made.class_right["car"] == pytest.approx(1.0)
    assert made.class_right["truck"] == 0.0


def test_a_box_beside_its_object_is_mended_by_place():
    made = sources(boxes((CAR, 10, 0, 0)), boxes((CAR, 13, 0, 0)))
    assert made.as_found["car"] == pytest.approx(0.25)  # 4 m of the four distances
    assert gains(made, "car")["place_right"] == pytest.approx(0.75)
    assert gains(made, "car")["class_right"] == gains(made, "car")["no_background"] == 0.0


def test_false_alarms_are_mended_by_removing_the_background():
    made = sources(boxes((CAR, 10, 0, 0)), boxes((CAR, 30, 0, 0), (CAR, 10, 0, 0)))
    assert made.as_found["car"] < 0.5
    assert made.no_background["car"] == pytest.approx(1.0)
    assert gains(made, "car")["place_right"] == gains(made, "car")["none_missed"] == 0.0


def test_misses_are_mended_by_leaving_out_what_nothing_is_on():
    made = sources(boxes((CAR, 10, 0, 0), (CAR, 30, 0, 0)), boxes((CAR, 10, 0, 0)))
    assert made.as_found["car"] == pytest.approx(0.4 / 0.9)  # recalls 0.11 … 0.5 of 0.11 … 1
    assert made.none_missed["car"] == pytest.approx(1.0)


def test_reversed_headings_are_told_apart_by_speed():
    truth = boxes((CAR, 10, 0, 0), (CAR, 20, 0, 0), (CAR, 30, 0, 8), (BARRIER, 5, 0, 0))
    found = boxes((CAR, 10, 3.1, 0), (CAR, 20, 1.6, 0), (CAR, 30, 0.1, 8), (BARRIER, 5, 3.1, 0))
    made = sources(truth, found)
    assert (made.standing["car"].found, made.standing["car"].reversed) == (2, 0.5)
    assert (made.moving["car"].found, made.moving["car"].reversed) == (1, 0.0)
    assert made.moving["bus"].reversed is None and "barrier" not in made.standing


def test_an_object_of_unknown_speed_neither_stands_nor_moves():
    made = sources(boxes((CAR, 10, 0, np.nan)), boxes((CAR, 10, 3.1, 0)))
    assert (made.standing["car"].found, made.moving["car"].found) == (0, 0)


def test_frames_without_detections_or_objects_count():
    counter = ErrorCounter()
    nothing, car = boxes(), boxes((CAR, 10, 0, 0))
    for found, truth in ((nothing, car), (car, nothing), (nothing, nothing), (car, car)):
        counter.update(prediction("a", found.values, found.labels, np.full(len(found), 0.5)), truth)
    made = counter.result()
    assert made.none_missed["car"] > made.as_found["car"] and made.no_background["car"] > made.as_found["car"]


def test_the_table_shows_gains_beside_what_was_found():
    truth = boxes((TRUCK, 10, 0, 0), (CAR, 30, 0, 0))
    lines = errors_table(sources(truth, boxes((BUS, 10, 0, 0), (CAR, 30, 3.1, 0)))).splitlines()
    truck, car, mean = (next(line for line in lines if line.startswith(name)) for name in ("truck", "car", "mean"))
    assert truck.split()[1:4] == ["0.000", "+1.000", "+0.000"]
    assert car.split()[-2:] == ["100", "–"]
    assert mean.split()[1:3] == ["0.100", "+0.100"]

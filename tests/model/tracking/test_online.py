"""Online tracking in the moving vehicle's frame, and its filter in batches."""

import numpy as np
import pytest

from vexkd_model.tracking.classes import MOTION, NOISE
from vexkd_model.tracking.kalman import begin, predict, predict_all
from vexkd_model.tracking.online import OnlineTracker
from vexkd_model.types import DETECTION_CLASSES, Boxes

CAR = DETECTION_CLASSES.index("car")


def drive(k):
    """fixed_from_base of a vehicle that drives at 5 m/s along x."""
    matrix = np.eye(4)
    matrix[0, 3] = 5.0 * k * 0.1
    return matrix


def follow(tracker, yaws, start_ns=10**9, score=0.6, **options):
    """Feed a car that stands at x = 20 m, seen with these headings at 10 Hz; return the objects of each moment."""
    answers = []
    for k, yaw in enumerate(yaws):
        box = np.array([[20.0 - 5.0 * k * 0.1, 3.0, 0.8, 4.5, 1.9, 1.6, yaw, np.nan, np.nan]], np.float32)
        boxes = Boxes(box, np.array([CAR]))
        answers.append(tracker.step(start_ns + k * 10**8, boxes, np.array([score]), drive(k), **options))
    return answers


def test_a_standing_car_stays_one_object_without_velocity_while_the_vehicle_drives_past():
    answers = follow(OnlineTracker(), [0.3] * 15)
    assert [len(objects) for objects in answers] == [0] + [1] * 14  # from the second sighting on
    assert len({objects[0].number for objects in answers[1:]}) == 1
    last = answers[-1][0]
    assert last.box[:2] == pytest.approx([13.0, 3.0], abs=0.05)
    assert np.linalg.norm(last.box[7:9]) < 0.3
    assert last.box[6] == pytest.approx(0.3, abs=0.02)


def test_a_first_sight_that_is_turned_round_is_outvoted():
    headings = [objects[0].box[6] for objects in follow(OnlineTracker(), [0.3 + np.pi] + [0.3] * 9)[1:]]
    assert np.cos(headings[-1] - 0.3) > 0.99
    headings = [objects[0].box[6] for objects in follow(OnlineTracker(), [0.3] * 9 + [0.3 + np.pi])[1:]]
    assert np.cos(headings[-1] - 0.3) > 0.99  # and so is a single later one


def test_what_scores_less_is_not_followed_and_time_that_jumps_back_gives_new_numbers():
    assert not any(follow(OnlineTracker(), [0.0] * 5, score_threshold=0.7))
    assert all(follow(OnlineTracker(), [0.0] * 5, least_sightings=1))
    tracker = OnlineTracker()
    before = follow(tracker, [0.0] * 5)[-1][0].number
    assert follow(tracker, [0.0] * 5)[-1][0].number > before


def test_states_that_are_predicted_together_are_those_predicted_one_by_one():
    random = np.random.default_rng(3)
    motions = [MOTION[label] for label in range(len(DETECTION_CLASSES))]
    states = [begin(random.normal(size=9), motion, noise) for motion, noise in zip(motions, NOISE, strict=True)]
    seconds = random.uniform(0.01, 1.5, len(states))
    together = predict_all(states, seconds, motions)
    for i, (state, motion) in enumerate(zip(states, motions, strict=True)):
        alone = predict(state, seconds[i], motion)
        np.testing.assert_allclose(together.mean[i], alone.mean, atol=1e-12)
        np.testing.assert_allclose(together.covariance[i], alone.covariance, atol=1e-12)
    assert predict_all([], np.empty(0), []).mean.shape == (0, 7)

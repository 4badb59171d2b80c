"""Tracks of a scene: what belongs together, and what smoothing makes of it."""

import numpy as np

from vexkd_model.tracking.association import associate
from vexkd_model.tracking.classes import NOISE
from vexkd_model.tracking.smoothing import Moment, track_scene
from vexkd_model.tracking.tracker import Tracker
from vexkd_model.types import DETECTION_CLASSES

CAR, TRUCK, PERSON, CONE = (DETECTION_CLASSES.index(name) for name in ("car", "truck", "pedestrian", "traffic_cone"))
STEP_S, MOMENTS = 0.5, 12


class Body:
    """Object that moves at constant velocity along its heading."""

    def __init__(self, label, x, y, yaw, speed, size):
        self.label, self.start, self.yaw, self.speed, self.size = label, np.array([x, y]), yaw, speed, size

    def box(self, seconds):
        velocity = self.speed * np.array([np.cos(self.yaw), np.sin(self.yaw)])
        return np.array([*(self.start + velocity * seconds), 0.8, *self.size, self.yaw, *velocity])


BODIES = [
    Body(CAR, -20, 0, 0.0, 8.0, (4.5, 1.9, 1.6)),
    Body(CAR, 20, 3.5, np.pi, 8.0, (4.0, 1.8, 1.5)),  # passes the first at 3.5 m
    Body(CAR, 5, -6, 0.3, 0.0, (4.8, 2.0, 1.7)),
    Body(PERSON, 0, 9, 1.0, 1.3, (0.7, 0.7, 1.7)),
    Body(CONE, 3, 12, 0.0, 0.0, (0.4, 0.4, 0.8)),
    Body(CONE, 4.5, 12, 0.0, 0.0, (0.4, 0.4, 0.8)),
]


def detections(rng, missing=(), turned=()):
    """Moments with noisy detections of BODIES; missing, turned: (moment, body) unseen, or seen the wrong way round."""
    moments = []
    for k in range(MOMENTS):
        seen = [i for i in rng.permutation(len(BODIES)) if (k, i) not in missing]
        boxes = np.array([BODIES[i].box(k * STEP_S) for i in seen])
        boxes[:, :2] += rng.normal(0, 0.25, (len(seen), 2))
        boxes[:, 3:6] *= rng.uniform(0.9, 1.1, (len(seen), 3))
        boxes[:, 6] += rng.normal(0, 0.1, len(seen)) + np.pi * np.array([(k, i) in turned for i in seen])
        boxes[:, 7:9] += rng.normal(0, 0.7, (len(seen), 2))
        labels = np.array([BODIES[i].label for i in seen])
        moments.append(Moment(round(k * STEP_S * 1e9), boxes, labels, np.full(len(seen), 0.6)))
    return moments


def body_of(track):
    middle = len(track.boxes) // 2
    away = [np.linalg.norm(body.box((track.first + middle) * STEP_S)[:2] - track.boxes[middle, :2]) for body in BODIES]
    return BODIES[int(np.argmin(away))]


def test_every_object_is_one_track_and_smoothing_brings_it_nearer_to_where_it_was():
    moments = detections(np.random.default_rng(0))
    tracks = track_scene(moments)
    assert len(tracks) == len(BODIES)
    assert {body_of(track) for track in tracks} == set(BODIES)
    raw, smooth = [], []
    for track in tracks:
        body = body_of(track)
        assert (track.label, track.first, len(track.boxes)) == (body.label, 0, MOMENTS)
        for k, box in enumerate(track.boxes):
            true = body.box(k * STEP_S)
            detected = moments[k].boxes[np.linalg.norm(moments[k].boxes[:, :2] - true[:2], axis=1).argmin()]
            for found, errors in ((detected, raw), (box, smooth)):
                errors.append([np.linalg.norm(found[:2] - true[:2]), np.linalg.norm(found[7:] - true[7:])])
        np.testing.assert_allclose(track.boxes[:, 3:6], np.tile(body.size, (MOMENTS, 1)), rtol=0.06)
    assert (np.mean(smooth, axis=0) < 0.75 * np.mean(raw, axis=0)).all()


def test_an_object_that_is_not_detected_for_two_moments_is_where_it_must_have_been():
    tracks = track_scene(detections(np.random.default_rng(1), missing={(5, 0), (6, 0)}))
    (track,) = (track for track in tracks if body_of(track) is BODIES[0])
    for k in (5, 6):
        np.testing.assert_allclose(track.boxes[k, :2], BODIES[0].box(k * STEP_S)[:2], atol=0.6)
    assert (track.scores[[5, 6]] < track.scores[[4, 7]]).all()


def test_the_heading_is_that_of_most_detections():
    tracks = track_scene(detections(np.random.default_rng(2), turned={(0, 2), (3, 2), (4, 2), (8, 2)}))
    (track,) = (track for track in tracks if body_of(track) is BODIES[2])
    np.testing.assert_allclose(track.boxes[:, 6], 0.3, atol=0.15)


def test_a_parked_car_has_no_velocity_and_one_place():
    tracks = track_scene(detections(np.random.default_rng(3)))
    (track,) = (track for track in tracks if body_of(track) is BODIES[2])
    assert np.ptp(track.boxes[:, :2], axis=0).max() < 0.02
    assert np.abs(track.boxes[:, 7:]).max() < 0.02


def test_online_an_object_keeps_its_number_while_others_come_and_go():
    tracker, numbers = Tracker(), set()
    for k, moment in enumerate(detections(np.random.default_rng(4), missing={(4, 0), (7, 3), (8, 5)})):
        found = tracker.step(*moment)
        nearest = np.linalg.norm(moment.boxes[:, :2] - BODIES[1].box(k * STEP_S)[:2], axis=1).argmin()
        numbers.add(found[nearest].number)
    assert len(numbers) == 1
    assert len(tracker.tracks) == len(BODIES)


def follow(label, places, velocities, rate=20.0):
    """Tracks of the last moment, of objects that are detected at x (moments, objects) along a road."""
    tracker = Tracker()
    for k, (xs, vx) in enumerate(zip(places, velocities, strict=True)):
        boxes = np.array([[x, 0, 0.8, 4.5, 1.9, 1.6, 0, vx, 0] for x in xs]).reshape(-1, 9)
        found = tracker.step(round(k / rate * 1e9), boxes, np.full(len(xs), label), np.full(len(xs), 0.6))
    return tracker, found


def test_at_a_lidars_rate_a_well_known_truck_is_still_found_three_deviations_away():
    places, away = np.zeros((40, 1)), 2.5 * NOISE[TRUCK].position
    places[-1] += away
    tracker, (track,) = follow(TRUCK, places, np.zeros(40))
    assert len(tracker.tracks) == 1 and len(track.sightings) == 40 and away > 1.0


def test_a_second_track_of_one_object_ends_and_the_longer_one_keeps_its_number():
    car = np.full((30, 1), 10.0)
    twice = [[10.0, 11.2] if k == 20 else xs for k, xs in enumerate(car)]  # both within the reach
    tracker, (track,) = follow(CAR, twice, np.zeros(30))
    assert tracker.tracks == [track] and track.number == 1 and len(track.sightings) == 30


def test_a_velocity_counts_as_often_as_it_was_measured_not_as_often_as_it_was_said():
    # An object that stands, and velocities that are wrong by 2 m/s for two seconds, as those of a network are.
    found = {}
    for rate in (2.0, 20.0):
        count = round(2 * rate) + 1
        _, (track,) = follow(CAR, np.zeros((count, 1)), np.full(count, 2.0), rate)
        found[rate] = track.sightings[-1].state.mean[[0, 4]]  # x and its velocity
    assert abs(found[20.0][0]) < 0.3 and abs(found[20.0][1]) < abs(found[2.0][1]) + 0.1


def test_of_a_row_of_cones_whose_first_is_out_of_sight_the_others_keep_their_places():
    row = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    found = row[1:] + np.array([0.1, 0])
    pairs = associate(row, np.full(4, CONE), np.full(4, 1.2), found, np.full(3, CONE))
    assert sorted(pairs) == [(1, 0), (2, 1), (3, 2)]


def test_no_match_between_classes_or_beyond_the_reach():
    place = np.zeros((1, 2))
    assert associate(place, np.array([CAR]), np.ones(1), place, np.array([CONE])) == []
    assert associate(place, np.array([CAR]), np.ones(1), place + 1.0, np.array([CAR])) == []


def test_moments_without_detections_are_no_tracks():
    nothing = (np.empty((0, 9)), np.empty(0, int), np.empty(0))
    assert track_scene([Moment(k, *nothing) for k in range(3)]) == []
    assert track_scene([]) == []


def test_an_object_that_is_detected_twice_is_one_track():
    moments = []
    for k, moment in enumerate(detections(np.random.default_rng(5))):
        doubles = []
        for body, (dx, dy) in ((BODIES[4], (-0.2, 0.3 if k % 2 else -0.3)), (BODIES[0], (0.3, 1.2))):
            away = np.linalg.norm(moment.boxes[:, :2] - body.box(k * STEP_S)[:2], axis=1)
            doubles.append(moment.boxes[away.argmin()] + [dx, dy, 0, 0, 0, 0, 0, 0, 0])
        moments.append(
            Moment(
                moment.stamp_ns,
                np.concatenate([moment.boxes, np.stack(doubles)]),
                np.append(moment.labels, [CONE, CAR]),
                np.append(moment.scores, [0.3, 0.3]),
            )
        )
    tracks = track_scene(moments)
    assert len(tracks) == len(BODIES)
    assert {body_of(track) for track in tracks} == set(BODIES)

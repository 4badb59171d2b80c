"""The devkit's tracking figures for tracks whose identity switches are known by hand, and errors before and after."""

import dataclasses

import numpy as np
import pytest
from support.street import CAR, PERSON, Thing
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError
from vexkd_model.evaluation import tracking
from vexkd_model.evaluation.motion_errors import motion_errors
from vexkd_model.evaluation.tracked_split import TrackedSplit
from vexkd_model.evaluation.tracking import Tracks, score_tracks
from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction

KEYFRAMES, STEP_MIN = 6, 0.5 / 60
THINGS = (
    Thing("vehicle.car", "vehicle.moving", 10.0, -3.5, CAR, speed=6.0),
    Thing("vehicle.car", "vehicle.parked", 12.0, 8.0, CAR),
    Thing("human.pedestrian.adult", "pedestrian.moving", 8.0, -9.0, PERSON, yaw=1.2, speed=1.2),
    Thing("movable_object.barrier", "", 7.0, 12.0, (0.5, 2.4, 1.0)),
)
MOVING, PARKED, PERSON_NUMBER, BARRIER = range(4)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    data = write_tiny_nuscenes(folder / "data", {"scene-0103": KEYFRAMES}, with_map=False, cameras=(), things=THINGS)
    prepare(data, "v1.0-mini", folder / "index", ["mini_val"])
    return FrameIndex.open(folder / "index", "mini_val")


def true_tracks(index):
    """Tracks that are the annotations, whose numbers are those of THINGS."""
    tracks = []
    for i in range(len(index)):
        record = index[i]
        assert len(record.boxes) == len(THINGS)
        tracks.append(Tracks(record.token, record.boxes, np.full(len(THINGS), 0.5, np.float32), np.arange(len(THINGS))))
    return tracks


def renumbered(tracks, changes):
    """The same with other numbers: {keyframe: {number: its number from that keyframe on}}."""
    now, result = {}, []
    for k, one in enumerate(tracks):
        now |= changes.get(k, {})
        numbers = np.array([now.get(number, number) for number in one.numbers.tolist()])
        result.append(dataclasses.replace(one, numbers=numbers))
    return result


def test_annotations_as_tracks_are_perfect(index):
    result = score_tracks(true_tracks(index), index)
    assert result.amota == pytest.approx(1.0) and result.mota == pytest.approx(1.0)
    assert result.amotp == pytest.approx(0.0, abs=1e-4)
    assert (result.ids, result.frag, result.fp, result.fn, result.tp) == (0, 0, 0, 0, 3 * KEYFRAMES)
    assert result.class_metrics["car"]["gt"] == 2 * KEYFRAMES
    assert result.class_metrics["bus"]["amota"] is None  # not annotated: it has no share in the mean
    assert result.minutes == pytest.approx((KEYFRAMES - 1) * STEP_MIN)


@pytest.mark.parametrize(
    ("changes", "of_cars", "of_persons"),
    [
        ({3: {MOVING: 9}}, 1, 0),
        ({2: {MOVING: 9}, 4: {MOVING: 10}}, 2, 0),
        ({3: {MOVING: PARKED, PARKED: MOVING}}, 2, 0),  # two objects change their numbers with one another
        ({1: {PERSON_NUMBER: 9}, 5: {PARKED: 10}}, 1, 1),
        ({1: {BARRIER: 9}, 2: {BARRIER: 10}}, 0, 0),  # of no tracking class
    ],
)
def test_every_change_of_a_number_is_one_identity_switch(index, changes, of_cars, of_persons):
    result = score_tracks(renumbered(true_tracks(index), changes), index)
    assert result.ids == of_cars + of_persons
    assert result.class_metrics["car"]["ids"] == of_cars and result.class_metrics["pedestrian"]["ids"] == of_persons
    assert result.class_metrics["car"]["mota"] == pytest.approx(1 - of_cars / (2 * KEYFRAMES))
    assert result.ids_per_minute == pytest.approx(result.ids / ((KEYFRAMES - 1) * STEP_MIN))


def test_a_track_that_ends_early_misses_the_rest_and_a_track_of_nothing_is_a_false_alarm(index):
    tracks = true_tracks(index)
    for k in (4, 5):
        keep = tracks[k].numbers != PARKED
        boxes = Boxes(tracks[k].boxes.values[keep], tracks[k].boxes.labels[keep])
        tracks[k] = Tracks(tracks[k].token, boxes, tracks[k].scores[keep], tracks[k].numbers[keep])
    values = tracks[0].boxes.values.copy()
    values[PERSON_NUMBER, 1] += 5.0
    tracks[0] = dataclasses.replace(tracks[0], boxes=Boxes(values, tracks[0].boxes.labels))
    result = score_tracks(tracks, index)
    assert (result.fn, result.fp, result.ids) == (3, 1, 0)
    assert result.class_metrics["car"]["recall"] == pytest.approx(10 / 12)


def test_no_tracks_at_all_score_0(index):
    empty = Boxes(np.empty((0, 9), np.float32), np.empty(0, int))
    nothing = [Tracks(token, empty, np.empty(0), np.empty(0, int)) for token in index.column("token")]
    result = score_tracks(nothing, index)
    assert result.amota == result.mota == result.recall == result.tp == result.ids == 0
    assert result.class_metrics["car"]["gt"] == 2 * KEYFRAMES


def test_what_cannot_be_scored_is_one_line(index, monkeypatch):
    tracks = true_tracks(index)
    with pytest.raises(UserError, match=r"1 keyframes of mini_val have no tracks \(the first is scene-0103-5\)"):
        score_tracks(tracks[:-1], index)
    with pytest.raises(UserError, match="'scene-0103-0': tracked twice"):
        score_tracks([*tracks, tracks[0]], index)
    with pytest.raises(UserError, match="'elsewhere': tracked, but not in the split mini_val"):
        score_tracks([*tracks, dataclasses.replace(tracks[0], token="elsewhere")], index)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"motmetrics is not installed.*pip install vexkd_ros\[tracking\]"):
        score_tracks(tracks, index)


def test_detections_of_the_truth_are_followed_without_a_switch_from_their_second_keyframe_on(index):
    tracked = TrackedSplit(index)
    predictions = [
        Prediction(one.boxes, one.scores, None, None, record.stamp_ns, one.token)
        for one, record in zip(true_tracks(index), (index[i] for i in range(len(index))), strict=True)
    ]
    assert list(tracked.follow(predictions)) == predictions
    result = tracked.score()
    assert (result.ids, result.fp, result.fn) == (0, 0, 3)  # each of the three is missed once, at the first sight
    assert result.motion.classes["car"].boxes == 2 * (KEYFRAMES - 1)
    assert result.motion.mean.velocity_before < 0.05


def test_errors_are_those_of_objects_that_both_found():
    car, cone = DETECTION_CLASSES.index("car"), DETECTION_CLASSES.index("traffic_cone")
    truth = np.array(
        [[10, 0, 0, 4, 2, 2, 0.0, 5, 0], [0, 10, 0, 4, 2, 2, 1.0, 0, 0], [20, 0, 0, 1, 1, 1, 0, 0, 0]], float
    )
    labels, scores = np.array([car, car, cone]), np.full(3, 0.5)
    found, tracks = truth.copy(), truth.copy()
    found[0, 7:9] += (3, 4)
    found[1, 7:9] += (0, 1)
    tracks[0, 7:9] += (0.6, 0.8)
    found[:, 6] += np.pi
    tracks[0, 6] -= 0.2

    def errors(keep):
        return motion_errors(
            [((Boxes(found, labels), scores), (Boxes(tracks[keep], labels[keep]), scores[keep]), Boxes(truth, labels))]
        )

    both = errors([0, 1, 2]).classes
    assert both.keys() == {"car"} and both["car"].boxes == 2  # a cone is of no tracking class
    assert (both["car"].velocity_before, both["car"].velocity_after) == (pytest.approx(3.0), pytest.approx(0.5))
    assert (both["car"].heading_before, both["car"].heading_after) == (pytest.approx(np.pi), pytest.approx(0.1))
    assert errors([0, 1, 2]).moving.boxes == 1  # the other one stands
    assert errors([1, 2]).classes["car"].velocity_before == pytest.approx(1.0)
    assert errors([2]).mean is None

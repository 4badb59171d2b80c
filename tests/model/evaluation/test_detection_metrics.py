"""The devkit's figures for predictions whose score can be computed by hand."""

import json

import numpy as np
import pytest
from support.street import THINGS
from support.tiny_nuscenes import SCENES

from vexkd_model.data.index import FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.evaluation.detection import score_submission, submission
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes, Prediction

GRID = BevGrid(-50.0, 50.0, -50.0, 50.0, 50.0)
CAR, BUS = DETECTION_CLASSES.index("car"), DETECTION_CLASSES.index("bus")
PRESENT = ("car", "truck", "bus", "barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone")
ABSENT = ("construction_vehicle", "trailer")


def prediction(token, values, labels, scores):
    nothing = np.zeros((len(MAP_CLASSES), *GRID.shape), np.float32)
    boxes = Boxes(np.asarray(values, np.float32).reshape(-1, 9), np.asarray(labels, np.int64))
    return Prediction(boxes, np.asarray(scores, np.float32), nothing, GRID, 0, token)


def perfect(record):
    seen = record.lidar_points > 0
    return record.boxes.values[seen].copy(), record.boxes.labels[seen].copy(), np.full(seen.sum(), 0.5)


@pytest.fixture(scope="module")
def records(tiny_index):
    return [tiny_index[i] for i in range(len(tiny_index))]


@pytest.fixture
def score(tiny_index, records, tmp_path):
    def run(predictions):
        poses = {record.token: record.global_from_base for record in records}
        return score_submission(
            tiny_index.dataroot, tiny_index.version, "mini_train", submission(predictions, poses, ["lidar"]), tmp_path
        )

    return run


def test_perfect_predictions_have_ap_1_and_no_errors(score, records):
    result = score([prediction(record.token, *perfect(record)) for record in records])
    for name in PRESENT:
        assert result.class_ap[name] == pytest.approx(1.0), name
    for name in ABSENT:
        assert result.class_ap[name] == 0.0
    assert result.mean_ap == pytest.approx(0.8)
    # Classes without ground truth have error 1; their two tenths are all that is left of each mean.
    assert result.tp_errors["trans_err"] == pytest.approx(0.2, abs=1e-3)
    assert result.tp_errors["scale_err"] == pytest.approx(0.2, abs=1e-3)
    assert result.tp_errors["orient_err"] == pytest.approx(2 / 9, abs=1e-3)  # a cone has no orientation
    assert result.tp_errors["attr_err"] == pytest.approx(2 / 8, abs=1e-3)  # cones and barriers have no attribute
    assert result.samples == SCENES["scene-0061"]


def test_ground_truth_counts_what_lidar_saw_of_the_ten_classes(score, records):
    result = score([prediction(record.token, *perfect(record)) for record in records])
    keyframes = SCENES["scene-0061"]
    assert result.ground_truth["car"] == 2 * keyframes  # the third car holds no point
    assert result.ground_truth["bus"] == 1
    assert sum(result.ground_truth.values()) == keyframes * (len(THINGS) - 3) + 1


def test_no_detections_at_all_score_0(score, records):
    result = score([prediction(record.token, [], [], []) for record in records])
    assert result.mean_ap == result.nd_score == 0.0
    assert set(result.tp_errors.values()) == {1.0}
    assert result.ground_truth["car"] == 6 and result.note == "no detections at all"


def test_cars_three_quarters_of_a_metre_off_miss_only_the_strictest_of_four_thresholds(score, records):
    predictions = []
    for record in records:
        values, labels, scores = perfect(record)
        values[labels == CAR, 0] += 0.75
        predictions.append(
            prediction(record.token, values[labels == CAR], labels[labels == CAR], scores[labels == CAR])
        )
    result = score(predictions)
    assert result.class_ap["car"] == pytest.approx(3 / 4)
    assert result.mean_ap == pytest.approx(3 / 40)
    assert result.tp_errors["trans_err"] == pytest.approx((0.75 + 9) / 10, abs=1e-3)


def test_a_wrong_heading_size_and_velocity_cost_their_own_error_only(score, records):
    def cars(change):
        predictions = []
        for record in records:
            values, labels, scores = (
                column[record.boxes.labels[record.lidar_points > 0] == CAR] for column in perfect(record)
            )
            change(values)
            predictions.append(prediction(record.token, values, labels, scores))
        return score(predictions).tp_errors

    def turn(values):
        values[:, 6] += 0.3

    def double_length(values):
        values[:, 3] *= 2

    def hurry(values):
        values[:, 8] += 2.0

    base = cars(lambda values: None)
    changed = {
        "orient_err": (cars(turn), 0.3 / 9),
        "scale_err": (cars(double_length), 0.5 / 10),
        "vel_err": (cars(hurry), 2.0 / 8),
    }
    for name, (errors, difference) in changed.items():
        assert errors[name] - base[name] == pytest.approx(difference, abs=1e-3)
        for other in base.keys() - {name, "attr_err"}:
            assert errors[other] == pytest.approx(base[other], abs=1e-3)


def test_one_bus_found_and_one_imagined_with_a_better_score_has_ap_one_fifth(score, records):
    # Precision rises linearly with recall from 0 to 1/2; above recall and precision 0.1 that leaves an area of 0.2.
    def with_phantom(phantom_score):
        predictions = []
        for record in records:
            values, labels, _ = perfect(record)
            bus = labels == BUS
            if bus.any():
                ghost = values[bus].copy()
                ghost[:, 1] += 12.0
                predictions.append(
                    prediction(record.token, np.concatenate([values[bus], ghost]), [BUS, BUS], [0.5, phantom_score])
                )
            else:
                predictions.append(prediction(record.token, [], [], []))
        return score(predictions).class_ap["bus"]

    assert with_phantom(0.9) == pytest.approx(0.2)
    assert with_phantom(0.1) > 0.99


def test_only_the_500_best_of_a_sample_are_submitted(records):
    values = np.tile(records[0].boxes.values[:1], (600, 1))
    scores = np.random.default_rng(0).permutation(600) / 600
    document = submission([prediction("a", values, np.full(600, CAR), scores)], {"a": np.eye(4)}, ["lidar"])
    submitted = [box["detection_score"] for box in document["results"]["a"]]
    np.testing.assert_allclose(submitted, np.sort(scores)[::-1][:500], rtol=1e-6)


def test_moving_things_get_the_moving_attribute_and_unknown_velocity_becomes_zero():
    row = [10, 0, 1, 4, 2, 1.5, 0]
    values = [[*row, 3, 0], [*row, 0, 0.1], [*row, np.nan, np.nan]]
    document = submission([prediction("a", values, [CAR] * 3, [0.9, 0.8, 0.7])], {"a": np.eye(4)}, ["lidar"])
    boxes = document["results"]["a"]
    assert [box["attribute_name"] for box in boxes] == ["vehicle.moving", "vehicle.parked", "vehicle.parked"]
    assert boxes[2]["velocity"] == [0.0, 0.0]
    assert boxes[0]["size"] == [2, 4, 1.5]  # the devkit's width, length, height


@pytest.mark.parametrize(("column", "value"), [(0, np.nan), (3, 0.0), (5, -1.0), (6, np.inf)])
def test_a_box_that_is_not_finite_or_has_no_volume_is_refused_by_its_sample(column, value):
    row = np.array([10, 0, 1, 4, 2, 1.5, 0, 0, 0], float)
    row[column] = value
    with pytest.raises(UserError, match="'broken'"):
        submission([prediction("broken", [row], [CAR], [0.9])], {"broken": np.eye(4)}, ["lidar"])


def test_missing_strange_and_repeated_samples_are_each_named(score, records):
    everything = [prediction(record.token, *perfect(record)) for record in records]
    with pytest.raises(UserError, match=r"1 of 3 samples.*scene-0061-0"):
        score(everything[1:])
    with pytest.raises(UserError, match=r"scene-0061-2.*twice"):
        score([*everything, everything[-1]])
    with pytest.raises(UserError, match=r"'elsewhere'.*no ego pose"):
        score([*everything, prediction("elsewhere", [], [], [])])


def test_a_split_of_another_version_is_one_clear_error(tiny_index, tmp_path):
    def empty(tokens, split):
        poses = {token: np.eye(4) for token in tokens}
        predictions = [prediction(token, [], [], []) for token in tokens]
        document = submission(predictions, poses, ["lidar"])
        return score_submission(tiny_index.dataroot, "v1.0-mini", split, document, tmp_path)

    with pytest.raises(UserError, match=r"v1.0-mini cannot be scored on split 'test'"):
        empty([], "test")
    with pytest.raises(UserError, match=r"v1.0-mini cannot be scored on split 'val'"):
        empty(["scene-0103-0", "scene-0103-1"], "val")
    with pytest.raises(UserError, match=r"split 'summer'; choose one of mini_train, mini_val"):
        empty([], "summer")


def test_a_submission_that_the_official_validator_refuses_is_not_kept(tiny_index, records, tmp_path):
    document = submission(
        [prediction(record.token, *perfect(record)) for record in records],
        {record.token: record.global_from_base for record in records},
        ["lidar"],
    )
    document["results"][records[0].token][0]["attribute_name"] = "vehicle.flying"
    with pytest.raises(UserError, match=r"official validator refuses .*vehicle\.flying"):
        score_submission(tiny_index.dataroot, "v1.0-mini", "mini_train", document, tmp_path, kept=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_the_result_is_plain_json(score, records):
    result = score([prediction(record.token, *perfect(record)) for record in records])
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["class_ap"]["car"] == pytest.approx(1.0)


def test_a_real_keyframe_scores_its_own_annotations_perfectly(keyframe_dataroot, tmp_path):
    from vexkd_model.data.prepare import prepare

    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    record = FrameIndex.open(tmp_path, "mini_train")[0]
    poses = {record.token: record.global_from_base}
    document = submission([prediction(record.token, *perfect(record))], poses, ["lidar"])
    result = score_submission(keyframe_dataroot, "v1.0-mini", "mini_train", document, tmp_path)
    found = {name for name, count in result.ground_truth.items() if count}
    assert {"car", "pedestrian", "barrier"} <= found
    assert all(result.class_ap[name] == pytest.approx(1.0) for name in found)

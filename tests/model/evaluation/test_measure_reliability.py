"""Reliability of a student whose errors are known, measured on a split, and `vexkd calibrate` end to end."""

import json
import shutil

import numpy as np
import pytest
from test_detection_metrics import perfect, prediction

from vexkd_model.cli import main
from vexkd_model.data.index import FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.evaluation.measure_reliability import DetectionTable, measure_reliability, tabulate
from vexkd_model.evaluation.report import reliability_table
from vexkd_model.types import DETECTION_CLASSES, DEVIATION_FIELDS, Boxes

DATA = {"split": "val"}
CAR, BUS = DETECTION_CLASSES.index("car"), DETECTION_CLASSES.index("bus")


def table(count, label, seed=0, found=0.8):
    """Detections that are right in score² of all cases and off by 0.5 times a normal error; `found` of all objects."""
    random = np.random.default_rng(seed)
    scores = random.uniform(0.05, 0.99, count).astype(np.float32)
    hits = random.uniform(size=count) < scores**2
    errors = np.where(hits[:, None], 0.5 * random.normal(size=(count, len(DEVIATION_FIELDS))), np.nan)
    values = np.zeros((count, 9), np.float32)
    values[:, 0] = random.uniform(2, 50, count)
    annotations = np.zeros((2, len(DETECTION_CLASSES)), int)
    annotations[:, label] = hits.sum() / found / 2
    boxes = Boxes(values, np.full(count, label))
    return DetectionTable(np.arange(count) % 2, boxes, scores, hits, errors, annotations, frames=100)


def test_what_was_put_in_is_measured():
    measured = measure_reliability(table(8000, CAR), DATA, "", "")
    (car,) = measured.classes.values()
    assert car.detections == 8000 and list(measured.classes) == ["car"]
    assert car.held_out.ece_before > 0.1 and car.held_out.ece_after < 0.02
    assert car.held_out.recall == pytest.approx(0.8, abs=0.2) and 0.5 < car.held_out.precision < 0.9
    assert [part.to for part in car.deviations] == [10, 20, 30, 40, None]
    for part in car.deviations:
        np.testing.assert_allclose([getattr(part, name) for name in DEVIATION_FIELDS], 0.5, rtol=0.2)
    np.testing.assert_allclose(list(car.held_out.coverage.values()), 0.683, atol=0.05)
    assert measured.thresholds()[CAR] == car.score_threshold and not measured.thresholds()[1:].any()
    assert "car" in reliability_table(measured)


def test_of_few_hits_nothing_is_fitted():
    with pytest.raises(UserError, match="val: no class has 20 hits in each half of the scenes; give more frames"):
        measure_reliability(table(60, BUS), DATA, "", "")


def test_one_scene_is_not_enough(tiny_index_dir):
    index = FrameIndex.open(tiny_index_dir, "mini_train")
    with pytest.raises(UserError, match="mini_train: holds one scene"):
        tabulate([], index)


def test_true_boxes_that_are_moved_are_hits_with_their_errors(tiny_index_dir, monkeypatch):
    index = FrameIndex.open(tiny_index_dir, "mini_train")
    column = index.column
    monkeypatch.setattr(  # as if its frames were of two scenes
        index, "column", lambda name: ["scene-0061", "other"] * 2 if name == "scene" else column(name)
    )
    predictions = []
    for record in (index[i] for i in range(len(index))):
        values, labels, scores = perfect(record)
        values = np.concatenate([values, values[:1] + np.float32([0, 30, 0, 0, 0, 0, 0, 0, 0])])
        values[:, 2] += 0.25
        predictions.append(
            prediction(record.token, values, np.append(labels, labels[0]), np.append(scores, np.float32(0.2)))
        )
    found = tabulate(predictions, index)
    assert found.hits.sum() == found.annotations.sum() > 20 and not found.hits[found.scores < 0.3].any()
    errors = found.errors[found.hits]
    np.testing.assert_allclose(errors[:, 2], 0.25, atol=1e-5)
    np.testing.assert_allclose(errors[:, [0, 1, 3]], 0, atol=1e-5)
    assert np.isnan(found.errors[~found.hits]).all()


def test_too_little_data_leaves_the_package_as_it_was(tiny_dataroot, tiny_index_dir, tmp_path):
    package = shutil.copytree("models/lidar_plain", tmp_path / "package")
    before = (package / "card.json").read_bytes()
    words = ["calibrate", str(package), "--dataroot", str(tiny_dataroot), "--version", "v1.0-mini"]
    with pytest.raises(SystemExit, match="holds one scene"):
        main([*words, "--split", "mini_train", "--index", str(tiny_index_dir)])
    assert (package / "card.json").read_bytes() == before and json.loads(before)["weights_sha256"]

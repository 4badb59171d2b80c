"""A card's reliability arrives at the predictions: scores, thresholds and deviations, and no other boxes."""

import json

import numpy as np
import pytest
import torch
from support.calibrated import SIGMAS, reliability

from vexkd_model.deploy.package import CARD, save_package, write_card
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.deploy.reliability import ReliabilityTables
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.types import DETECTION_CLASSES, Boxes, Frame


@pytest.fixture
def package(tiny_config, tmp_path):
    torch.manual_seed(2)
    student = build_model(tiny_config)
    with torch.no_grad():
        for task in student.detection.tasks:
            task.out.bias[: task.split[0]] = 0.0  # an untrained student that says much
    card = save_package(tmp_path / "student", student, tiny_config, {}, {}, "abc123")
    worth = reliability(0.3, (2.0, 2.0, -1.0), DETECTION_CLASSES[::2])
    write_card(tmp_path / "student", card.model_copy(update={"reliability": worth}))
    return tmp_path / "student"


def frame():
    points = np.random.default_rng(0).uniform([-50, -50, -2, 0, 0], [50, 50, 2, 255, 0.1], (2000, 5))
    return Frame(points.astype(np.float32), 1)


def test_scores_are_mapped_and_boxes_are_the_same(package):
    raw = Predictor.load(package, calibrated=False)
    found, own = Predictor.load(package).predict(frame()), raw.predict(frame())
    assert own.deviations is None and raw.thresholds is None
    assert (np.diff(found.scores) <= 0).all()
    for label, name in enumerate(DETECTION_CLASSES):
        of_class, before = found.boxes.labels == label, own.boxes.labels == label
        np.testing.assert_array_equal(found.boxes.values[of_class], own.boxes.values[before])
        logit = np.log(own.scores[before] / (1 - own.scores[before]))
        wanted = 1 / (1 + np.exp(1 - 2 * logit)) if name in DETECTION_CLASSES[::2] else own.scores[before]
        np.testing.assert_allclose(found.scores[of_class], wanted, atol=1e-5)
        assert (np.isfinite(found.deviations[of_class]) == (name in DETECTION_CLASSES[::2])).all()


def test_a_prediction_above_its_thresholds_keeps_what_belongs_together(package):
    predictor = Predictor.load(package)
    np.testing.assert_array_equal(predictor.thresholds, [0.3, 0] * 5)
    everything = predictor.predict(frame())
    kept = everything.scoring(predictor.thresholds)
    chosen = (everything.scores >= 0.3) | (everything.boxes.labels % 2 == 1)
    assert 0 < chosen.sum() < len(chosen)
    np.testing.assert_array_equal(kept.boxes.values, everything.boxes.values[chosen])
    np.testing.assert_array_equal(kept.deviations, everything.deviations[chosen])


def test_deviations_are_those_of_the_range():
    boxes = Boxes(np.array([[3, 4, 0], [12, 16, 0], [30, 0, 0]], np.float32), np.array([0, 4, 4]))
    found = ReliabilityTables.of(reliability()).deviations_of(boxes)
    np.testing.assert_allclose(found, np.outer([1, 1, 2], list(SIGMAS.values())), rtol=1e-6)


def test_a_damaged_reliability_is_named_by_its_key(package):
    card = json.loads((package / CARD).read_text())
    del card["reliability"]["classes"]["car"]["score_map"]
    (package / CARD).write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"card.json: reliability.classes.car.score_map: Field required"):
        Predictor.load(package)

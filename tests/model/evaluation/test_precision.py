"""The fast average precision is the devkit's, and what a training watches is computed from nothing else."""

import numpy as np
import pytest
from test_detection_metrics import prediction

from vexkd_model.evaluation.detection import score_submission, submission
from vexkd_model.evaluation.precision import PrecisionRecall
from vexkd_model.types import DETECTION_CLASSES, Boxes


def guesses(record, random):
    """Detections near and far from the truth of a frame, of right and wrong classes, with scores that say little."""
    values, labels = record.boxes.values.copy(), record.boxes.labels.copy()
    values[:, :2] += random.normal(0, 1.2, (len(values), 2))
    values[:, 7:] = 0
    wrong = random.random(len(labels)) < 0.2
    labels[wrong] = random.integers(0, 10, wrong.sum())
    values, labels = np.concatenate([values, values + 0.3]), np.concatenate([labels, labels])
    return prediction(record.token, values, labels, random.random(len(labels)))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_the_devkit(tiny_index, tmp_path, seed):
    random = np.random.default_rng(seed)
    records = [tiny_index[i] for i in range(len(tiny_index))]
    guessed = [guesses(record, random) for record in records]
    poses = {record.token: record.global_from_base for record in records}
    official = score_submission(
        tiny_index.dataroot, tiny_index.version, tiny_index.split, submission(guessed, poses, ["lidar"]), tmp_path
    )
    counter = PrecisionRecall()
    for record, found in zip(records, guessed, strict=True):
        counter.update(found, record.counted_boxes)
    assert counter.average_precision() == pytest.approx(official.class_ap, abs=1e-3)
    assert 0.05 < official.mean_ap < 0.9


def test_frames_counted_apart_and_brought_together_give_the_same(tiny_index):
    random = np.random.default_rng(0)
    records = [tiny_index[i] for i in range(len(tiny_index))]
    guessed = [guesses(record, random) for record in records]
    whole, first, second = PrecisionRecall(), PrecisionRecall(), PrecisionRecall()
    for i, (record, found) in enumerate(zip(records, guessed, strict=True)):
        whole.update(found, record.counted_boxes)
        (first, second)[i % 2].update(found, record.counted_boxes)
    first.extend(second.frames)
    assert first.average_precision() == pytest.approx(whole.average_precision())


def test_nothing_found_and_nothing_there_is_zero():
    counter = PrecisionRecall()
    assert counter.average_precision() == dict.fromkeys(DETECTION_CLASSES, 0.0)
    nothing = prediction("a", np.empty((0, 9)), [], [])
    counter.update(nothing, Boxes(np.empty((0, 9), np.float32), np.empty(0, np.int64)))
    assert counter.average_precision() == dict.fromkeys(DETECTION_CLASSES, 0.0)

"""Matching of one frame, held against the devkit's own and against cases worked out by hand."""

import numpy as np
import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.utils import center_distance
from nuscenes.eval.detection.algo import accumulate
from nuscenes.eval.detection.data_classes import DetectionBox

from vexkd_model.evaluation.matching import CLASS_RANGE_M, match_by_centre
from vexkd_model.types import Boxes


def boxes(centres: np.ndarray, labels: np.ndarray | None = None) -> Boxes:
    values = np.zeros((len(centres), 9), np.float32)
    values[:, :2] = centres
    values[:, 3:6] = 1
    return Boxes(values, np.zeros(len(centres), np.int64) if labels is None else np.asarray(labels))


def eval_boxes(centres: np.ndarray, scores: np.ndarray | None = None) -> EvalBoxes:
    result = EvalBoxes()
    result.add_boxes(
        "frame",
        [
            DetectionBox(
                "frame",
                (*map(float, centre), 0.0),
                (1, 1, 1),
                (1, 0, 0, 0),
                detection_name="car",
                attribute_name="",
                detection_score=-1.0 if scores is None else float(scores[i]),
            )
            for i, centre in enumerate(centres)
        ],
    )
    return result


@pytest.mark.parametrize("seed", range(5))
def test_as_many_hits_as_the_devkit_counts(seed):
    random = np.random.default_rng(seed)
    truth = random.uniform(-20, 20, (50, 2))  # half as many as the devkit's steps of recall: two tell one hit
    found = np.concatenate([truth[:40] + random.normal(0, 1.5, (40, 2)), random.uniform(-20, 20, (60, 2))])
    scores = random.permutation(len(found)) / len(found)
    devkit = accumulate(eval_boxes(truth), eval_boxes(found, scores), "car", center_distance, 2.0)
    matches = match_by_centre(boxes(found), scores, boxes(truth), 2.0)
    assert len(matches.hits) == (devkit.max_recall_ind + 1) // 2 > 20
    assert len(matches.false_alarms) == len(found) - len(matches.hits)
    assert len(matches.misses) == len(truth) - len(matches.hits)
    assert matches.distances.mean() == pytest.approx(devkit.trans_err[devkit.max_recall_ind], abs=0.02)


def test_the_better_score_takes_the_object_though_the_other_is_nearer():
    matches = match_by_centre(boxes([(0.1, 0), (1, 0)]), np.array([0.2, 0.9]), boxes([(0, 0)]))
    assert matches.hits.tolist() == [[1, 0]] and matches.distances.tolist() == [1]
    assert matches.false_alarms.tolist() == [0]


def test_another_class_at_the_same_place_is_a_false_alarm_and_a_miss():
    matches = match_by_centre(boxes([(0, 0)], [1]), np.array([0.9]), boxes([(0, 0)], [0]))
    assert (len(matches.hits), matches.false_alarms.tolist(), matches.misses.tolist()) == (0, [0], [0])


def test_a_detection_exactly_at_the_distance_does_not_hit():
    assert not len(match_by_centre(boxes([(2, 0)]), np.ones(1), boxes([(0, 0)]), 2.0).hits)


@pytest.mark.parametrize(("found", "truth"), [(0, 2), (2, 0), (0, 0)])
def test_nothing_matches_nothing(found, truth):
    matches = match_by_centre(boxes(np.zeros((found, 2))), np.ones(found), boxes(np.zeros((truth, 2))))
    assert matches.hits.shape == (0, 2)
    assert (len(matches.false_alarms), len(matches.misses)) == (found, truth)


def test_ranges_are_those_of_the_metrics():
    assert config_factory("detection_cvpr_2019").class_range == CLASS_RANGE_M

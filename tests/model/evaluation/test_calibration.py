"""Scores of known worth are recognised as such, and their thresholds are those of best F1."""

import numpy as np
import pytest

from vexkd_model.deploy.reliability import map_scores
from vexkd_model.evaluation.calibration import best_f1_threshold, expected_calibration_error, fit_score_map


def overconfident(count, seed=0):
    """Scores s of which the share s² is right, and whether each is."""
    random = np.random.default_rng(seed)
    scores = random.uniform(0.02, 0.99, count).astype(np.float32)
    return scores, random.uniform(size=count) < scores**2


def test_a_fitted_map_turns_scores_into_shares_of_other_detections():
    score_map = fit_score_map(*overconfident(20_000))
    scores, hits = overconfident(20_000, seed=1)
    assert expected_calibration_error(scores, hits) > 0.12
    assert expected_calibration_error(map_scores(scores, score_map), hits) < 0.015
    np.testing.assert_allclose(map_scores(np.float32([0.3, 0.6, 0.9]), score_map), [0.09, 0.36, 0.81], atol=0.03)


def test_calibration_never_changes_the_order_of_two_scores():
    scores = np.linspace(0.001, 0.999, 500, dtype=np.float32)
    for hits in (np.arange(500) % 2 == 0, np.arange(500) < 250, np.arange(500) >= 250, np.arange(500) < 0):
        mapped = map_scores(scores, fit_score_map(scores, hits))
        assert (np.diff(mapped) >= 0).all() and np.isfinite(mapped).all() and 0 <= mapped.min() <= mapped.max() <= 1


def test_scores_at_both_ends_stay_finite():
    np.testing.assert_allclose(map_scores(np.float32([0, 0.25, 1]), (1, 1, 0)), [0, 0.25, 1], atol=1e-6)


def test_the_error_is_the_mean_distance_of_score_and_share():
    scores = np.repeat(np.float32([0.25, 0.75]), [100, 300])
    hits = np.concatenate([np.arange(100) < 45, np.arange(300) < 225])  # 0.45 instead of 0.25; 0.75
    assert expected_calibration_error(scores, hits) == pytest.approx(0.25 * 0.2)
    assert expected_calibration_error(scores[:0], hits[:0]) == 0


@pytest.mark.parametrize(
    ("hits", "annotations", "threshold"),
    [
        ([1, 1, 0, 0], 2, 0.6),  # both of two: F1 is 1
        ([1, 1, 0, 1], 10, 0.05),  # a lot is missed: each that is right is worth a false alarm
        ([1, 0, 0, 1], 2, 0.8),  # 2/3 with one, 2/3 with all: the higher
    ],
)
def test_the_threshold_lies_where_f1_is_best(hits, annotations, threshold):
    scores = np.float32([0.9, 0.7, 0.5, 0.1])
    assert best_f1_threshold(scores, np.array(hits, bool), annotations) == pytest.approx(threshold)


def test_equal_scores_are_not_parted():
    assert best_f1_threshold(np.float32([0.9, 0.9, 0.5]), np.array([1, 0, 0], bool), 1) == pytest.approx(0.7)

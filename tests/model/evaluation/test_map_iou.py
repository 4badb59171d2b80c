"""BEVFusion's map metric against counts that fit on a hand."""

import numpy as np
import pytest

from vexkd_model.evaluation.map_iou import THRESHOLDS, MapIou
from vexkd_model.types import MAP_CLASSES


def planes(rows):
    """(6, 1, X): the given rows, then empty classes."""
    table = np.zeros((6, 1, len(rows[0])), np.float32)
    table[: len(rows), 0] = rows
    return table


def test_a_perfect_map_has_iou_1_in_every_class():
    target = np.random.default_rng(0).random((6, 20, 30)) < 0.3
    iou = MapIou()
    iou.update(target.astype(np.float32), target)
    assert iou.result().mean_iou == pytest.approx(1.0)
    assert iou.result().absent == ()


def test_the_best_threshold_of_each_class_is_chosen_alone():
    # class 0: true cells score 0.9 and 0.45, a false one 0.4. 0.35, 0.40 → 2/3, 0.45 → 2/2, from 0.50 on → 1/2.
    # class 1: true cells score 0.38 and 0.7, false ones 0.52 and 0.1. 0.35 → 2/3, 0.40 … 0.50 → 1/3, 0.55 … → 1/2.
    probabilities = planes([[0.9, 0.45, 0.4, 0.0], [0.38, 0.7, 0.52, 0.1]])
    iou = MapIou()
    iou.update(probabilities, planes([[1, 1, 0, 0], [1, 1, 0, 0]]) > 0)
    result = iou.result()
    first, second, *rest = result.class_iou.values()
    assert (first, second, rest) == (pytest.approx(1.0), pytest.approx(2 / 3), [0.0] * 4)
    assert list(result.best_threshold.values())[:2] == [0.45, 0.35]
    assert result.mean_iou == pytest.approx((1 + 2 / 3) / 6)
    assert result.absent == MAP_CLASSES[2:]


def test_cells_are_counted_over_the_whole_set_before_the_ratio_is_taken():
    iou = MapIou()
    iou.update(planes([[0.9] * 8]), planes([[1] * 8]) > 0)  # IoU 1 with 8 cells
    iou.update(planes([[0.9] * 2]), planes([[0] * 2]) > 0)  # IoU 0 with 2 cells
    result = iou.result()
    assert result.class_iou["drivable_area"] == pytest.approx(8 / 10)
    assert result.samples == 2


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_probability_that_equals_a_threshold_reaches_it(threshold):
    # In float32, as networks speak: only at thresholds up to its own does the cell count as predicted.
    iou = MapIou()
    iou.update(planes([[threshold]]).astype(np.float32), planes([[1]]) > 0)
    iou.update(planes([[threshold - 0.01]]), planes([[0]]) > 0)
    assert iou.result().best_threshold["drivable_area"] == threshold


def test_agreement_with_a_plain_count():
    random = np.random.default_rng(3)
    samples = [(random.random((6, 15, 17)).astype(np.float32), random.random((6, 15, 17)) < 0.4) for _ in range(3)]
    iou = MapIou()
    for probabilities, target in samples:
        iou.update(probabilities, target)
    for number, name in enumerate(MAP_CLASSES):
        best = 0.0
        for threshold in THRESHOLDS:
            shared = either = 0
            for probabilities, target in samples:
                for p, t in zip(probabilities[number].ravel(), target[number].ravel(), strict=True):
                    shared += bool(p >= threshold and t)
                    either += bool(p >= threshold or t)
            best = max(best, shared / either)
        assert iou.result().class_iou[name] == pytest.approx(best)


def test_no_samples_score_0_and_shapes_must_agree():
    assert MapIou().result().mean_iou == 0.0
    with pytest.raises(ValueError, match="differ in shape"):
        MapIou().update(np.zeros((6, 4, 4)), np.zeros((6, 4, 5), bool))

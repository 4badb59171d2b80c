"""Conventions of the shared types."""

import numpy as np
import pytest

from vexkd_model.types import BevGrid, Boxes, Prediction


def test_cell_centres_lie_half_a_cell_inside_the_range():
    grid = BevGrid(-2.0, 2.0, 0.0, 6.0, 1.0)
    y, x = grid.centres()
    assert grid.shape == (6, 4)
    np.testing.assert_allclose(x, [-1.5, -0.5, 0.5, 1.5])
    np.testing.assert_allclose(y, [0.5, 1.5, 2.5, 3.5, 4.5, 5.5])


@pytest.mark.parametrize(("extent", "cell", "cells"), [(54.0, 0.6, 180), (54.0, 0.9, 120), (50.0, 0.5, 200)])
def test_the_grids_of_the_paper_divide_exactly(extent, cell, cells):
    assert BevGrid(-extent, extent, -extent, extent, cell).shape == (cells, cells)


@pytest.mark.parametrize("cell", [0.15 * 1.01, 0.7, 300.0])
def test_a_range_that_does_not_divide_into_cells_is_refused(cell):
    with pytest.raises(ValueError, match="does not divide"):
        BevGrid(-50.0, 50.0, -50.0, 50.0, cell)


def test_a_prediction_above_a_threshold_keeps_its_boxes_and_scores_together():
    boxes = Boxes(np.arange(27, dtype=np.float32).reshape(3, 9), np.array([4, 5, 6]))
    prediction = Prediction(
        boxes,
        np.array([0.9, 0.5, 0.1], np.float32),
        np.zeros((6, 1, 1), np.float32),
        BevGrid(-1, 1, -1, 1, 2),
        7,
        "sample",
    )
    above = prediction.scoring(0.5)
    assert above.scores.tolist() == pytest.approx([0.9, 0.5]) and above.boxes.labels.tolist() == [4, 5]
    np.testing.assert_array_equal(above.boxes.values, boxes.values[:2])
    assert (above.stamp_ns, above.token) == (7, "sample")

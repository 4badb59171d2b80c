"""Picture of a frame: a PNG that shows boxes, points and map in their places."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from vexkd_model.figures.bev_figure import bev_figure
from vexkd_model.figures.palette import DETECTION_COLOURS, MAP_COLOURS
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes, Prediction

GRID = BevGrid(-50.0, 50.0, -50.0, 50.0, 0.5)
BUS = DETECTION_CLASSES.index("bus")
NO_BOXES = Boxes(np.zeros((0, 9), np.float32), np.zeros(0, np.int64))
NO_POINTS = np.zeros((0, 5), np.float32)


def prediction(boxes=NO_BOXES, scores=(), masks=None):
    if masks is None:
        masks = np.zeros((len(MAP_CLASSES), *GRID.shape), np.float32)
    return Prediction(boxes, np.array(scores, np.float32), masks.astype(np.float32), GRID, 0)


def picture(path, *arguments):
    bev_figure(path, *arguments)
    image = cv2.imread(str(path))
    assert image is not None
    return image[..., ::-1].astype(int)


def near(image, colour, tolerance=12):
    """(Y, X) pixels of that colour; the legend below the panels left out."""
    return (np.abs(image - colour).max(axis=-1) <= tolerance)[: int(0.86 * len(image))]


def one_bus(x, y, score):
    return prediction(Boxes(np.array([[x, y, 1, 11, 3, 3, 0, 0, 0]], np.float32), np.array([BUS])), [score])


def test_a_detection_on_the_left_ahead_is_drawn_above_and_to_the_left(tmp_path):
    purple = DETECTION_COLOURS["bus"]
    left_ahead, right_behind = (
        np.argwhere(near(picture(tmp_path / "a.png", NO_POINTS, None, one_bus(x, y, 0.9), None, ""), purple))
        for x, y in ((30.0, 30.0), (-30.0, -30.0))
    )
    assert len(left_ahead) > 50 and len(right_behind) > 50
    row, column = left_ahead.mean(axis=0) - right_behind.mean(axis=0)
    assert row < -100 and column < -100
    assert abs(row) == pytest.approx(abs(column), rel=0.02)  # a metre is a metre along both axes


def test_a_doubtful_detection_is_not_drawn(tmp_path):
    assert not near(
        picture(tmp_path / "a.png", NO_POINTS, None, one_bus(30, 30, 0.1), None, ""), DETECTION_COLOURS["bus"]
    ).any()


def test_the_map_shows_a_class_where_its_probability_is_high(tmp_path):
    masks = np.zeros((6, *GRID.shape))
    masks[MAP_CLASSES.index("carpark_area"), 150:, 100:] = 0.8  # a quarter of the square's half
    masks[MAP_CLASSES.index("walkway"), :50, 100:] = 0.3
    image = picture(tmp_path / "a.png", NO_POINTS, None, prediction(masks=masks), None, "")
    rows, columns = np.nonzero(near(image, MAP_COLOURS["carpark_area"]))
    assert np.ptp(rows) == pytest.approx(2 * np.ptp(columns), rel=0.05)
    assert not near(image, MAP_COLOURS["walkway"]).any()


def test_the_true_map_has_a_panel_of_its_own(tmp_path):
    truth = np.zeros((6, *GRID.shape), bool)
    truth[MAP_CLASSES.index("walkway"), 50:150] = True
    image = picture(tmp_path / "a.png", NO_POINTS, None, prediction(), truth, "")
    assert near(image, MAP_COLOURS["walkway"]).sum() > 5000


def test_points_and_true_boxes_leave_ink(tmp_path):
    points = np.random.default_rng(0).uniform(-40, 40, (5000, 5)).astype(np.float32)
    truth = Boxes(np.array([[10, 0, 1, 5, 2, 2, 0.5, 0, 0]], np.float32), np.array([0]))
    empty, with_points, with_truth = (
        picture(tmp_path / "a.png", some, boxes, prediction(), None, "")
        for some, boxes in ((NO_POINTS, NO_BOXES), (points, NO_BOXES), (NO_POINTS, truth))
    )
    assert (empty != with_points).any(axis=-1).sum() > 3000
    assert 50 < (empty != with_truth).any(axis=-1)[: int(0.86 * len(empty))].sum() < 20000


def test_a_figure_that_cannot_be_written_leaves_the_old_one_and_no_scraps(tmp_path, monkeypatch):
    path = tmp_path / "new" / "frame.png"
    bev_figure(path, NO_POINTS, None, prediction(), None, "first")
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("vexkd_model.files.os.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        bev_figure(path, NO_POINTS, None, prediction(), None, "a title with $signs$ of \\no meaning{")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["frame.png"]


def test_drawing_needs_no_display_and_touches_no_global_figure_state():
    code = "import vexkd_model.figures.bev_figure, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""`vexkd plot students` shows each model's own map, detections and segmentation, and the ground truth."""

import cv2
import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection

from vexkd_model.cli import main
from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.figures.scene import load_scene
from vexkd_model.figures.students_figure import ModelRow, students_figure
from vexkd_model.training.run import load_run
from vexkd_model.types import MAP_CLASSES, BevGrid, Boxes, Prediction

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = BevGrid(-54.0, 54.0, -54.0, 54.0, 1.8)


def plot(models, *words):
    main(["plot", "students", *map(str, models), *map(str, words)])


def outlines(axes):
    """Number of the boxes that have no filling."""
    return sum(
        len(found.get_paths())
        for found in axes.collections
        if isinstance(found, PolyCollection) and not len(found.get_facecolor())
    )


def colours_of(masks):
    """Picture (X, Y, 3) of map masks (6, Y, X), as the palette paints them."""
    image = np.full((*masks.shape[1:], 3), 255, np.uint8)
    for name, mask in zip(MAP_CLASSES, masks, strict=True):
        image[mask] = MAP_COLOURS[name]
    return image.swapaxes(0, 1)


def test_each_row_holds_what_that_model_says(runs, of_first_frame, tiny_index, saved, tmp_path):
    names = ("detection", "teacher", "plain")
    plot([runs / name for name in names], *of_first_frame, "--out", tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 1170
    panels = np.array(saved["a.png"].axes, object).reshape(4, 3)
    for row, name in zip(panels, names, strict=False):
        model, config, _ = load_run(runs / name)
        frame = load_frame(tiny_index, 0, config)
        with torch.no_grad():
            high = model.eval()(sensors_for(config, [frame])).features.high[0].norm(dim=0)
        np.testing.assert_allclose(row[0].images[0].get_array(), high.numpy().T, rtol=1e-4, atol=1e-5)
        assert row[0].get_ylabel().startswith(f"{name}\nlidar")
        if config.segmentation is None:
            assert row[2].texts[0].get_text() == "draws no map"
            continue
        masks = Predictor(model, config, None, "cpu").predict(frame).map_probabilities >= 0.5
        np.testing.assert_array_equal(row[2].images[0].get_array(), colours_of(masks))
    assert [row[0].get_ylabel().splitlines()[1] for row in panels[:3]] == [
        "lidar, taught by vexkd_teacher_small",
        "lidar and camera, without a teacher",
        "lidar, without a teacher",
    ]
    scene = load_scene(tiny_index, 0)
    np.testing.assert_array_equal(panels[3, 2].images[0].get_array(), colours_of(scene.map_masks))
    assert outlines(panels[3, 1]) == len(scene.boxes) > 0


def test_students_without_a_head_have_no_column_for_it(runs, of_first_frame, saved, tmp_path):
    plot([runs / "plain", runs / "segmentation"], *of_first_frame, "--out", tmp_path / "a.png")
    panels = np.array(saved["a.png"].axes, object).reshape(3, 3)
    assert panels[1, 1].texts[0].get_text() == "detects nothing" and panels[1, 2].images


def answer(detections, probabilities=None, detects=True):
    boxes = Boxes(
        np.array([[x, 0, 0, 4, 2, 2, 0, 0, 0] for x, _ in detections], np.float32).reshape(-1, 9),
        np.zeros(len(detections), np.int64),
    )
    prediction = Prediction(
        boxes,
        np.array([score for _, score in detections], np.float32),
        probabilities,
        None if probabilities is None else BevGrid(-50.0, 50.0, -50.0, 50.0, 0.5),
        0,
    )
    return ModelRow("model", np.ones(GRID.shape, np.float32), GRID, prediction, detects)


def test_detections_that_score_enough_lie_over_the_truth(tiny_index):
    scene = load_scene(tiny_index, 0)
    figure = students_figure(scene, [answer([(10, 0.9), (20, 0.31), (30, 0.2)]), answer([])])
    panels = np.array(figure.axes, object).reshape(3, 2)
    assert [axes.get_title() for axes in panels[:2, 1]] == [
        f"{found} detections,\n{len(scene.boxes)} annotated" for found in (2, 0)
    ]
    assert outlines(panels[0, 1]) - outlines(panels[1, 1]) == 2


def test_the_thresholds_of_a_card_choose_what_is_shown_by_class(tiny_index):
    row = answer([(10, 0.9), (20, 0.31), (30, 0.2)])
    strict, lenient = np.ones(10), np.ones(10)
    strict[0], lenient[0] = 0.5, 0.2
    figure = students_figure(load_scene(tiny_index, 0), [row._replace(thresholds=one) for one in (strict, lenient)])
    panels = np.array(figure.axes, object).reshape(3, 2)
    assert [axes.get_title().split(",")[0] for axes in panels[:2, 1]] == ["1 detections", "3 detections"]


def test_without_any_detector_only_maps_are_shown_and_without_a_map_the_truth_is_empty(tiny_index):
    scene = load_scene(tiny_index, 0)._replace(map_masks=None)
    figure = students_figure(scene, [answer([], np.zeros((6, 200, 200), np.float32), detects=False)])
    panels = np.array(figure.axes, object).reshape(2, 2)
    assert panels[0, 1].get_title() == "map, probability ≥ 0.5"
    assert panels[1, 1].texts[0].get_text() == "ground truth: no map"


def test_what_is_no_model_is_one_line(runs, of_first_frame, tmp_path):
    with pytest.raises(SystemExit, match="nowhere: neither a run nor a package") as error:
        plot([runs / "plain", runs / "nowhere"], *of_first_frame, "--out", tmp_path / "a.png")
    assert "\n" not in error.value.code and not (tmp_path / "a.png").exists()


def test_one_models_predictions_are_drawn_over_the_truth(runs, of_first_frame, tiny_index, saved, tmp_path):
    for name, drawn in (("plain", {"scene", "map", "map truth"}), ("detection", {"scene"})):
        words = [str(runs / name), *of_first_frame, "--out", str(tmp_path / f"{name}.svg")]
        main(["plot", "predictions", *words])
        panels = {axes.get_label(): axes for axes in saved[f"{name}.svg"].axes}
        assert set(panels) == drawn and "<svg" in (tmp_path / f"{name}.svg").read_text()
        assert f"{len(load_scene(tiny_index, 0).boxes)} annotated" in panels["scene"].get_title()
    masks = load_scene(tiny_index, 0).map_masks
    assert masks.any()


def test_packages_are_drawn_as_their_runs(runs, of_first_frame, saved, tmp_path, capsys):
    main(["export", str(runs / "plain"), str(tmp_path / "plain")])
    for folder, picture in ((runs, "run.png"), (tmp_path, "package.png")):
        plot([folder / "plain", runs / "detection"], *of_first_frame, "--out", tmp_path / picture)
    shown = [
        [np.asarray(axes.images[0].get_array()) for axes in saved[picture].axes if axes.images]
        for picture in ("run.png", "package.png")
    ]
    assert len(shown[0]) == 4
    for of_run, of_package in zip(*shown, strict=True):
        np.testing.assert_array_equal(of_run, of_package)

"""`vexkd plot masks` shows what the distiller of a run draws, where it draws it."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection

from vexkd_model.cli import main
from vexkd_model.data.batch import collate_for
from vexkd_model.data.dataset import load_frame, load_sample
from vexkd_model.distill.distiller import Distiller
from vexkd_model.figures.masks_figure import DrawnMasks, masks_figure
from vexkd_model.figures.scene import load_scene
from vexkd_model.geometry.boxes import corners_bev
from vexkd_model.training.load_distiller import load_distiller
from vexkd_model.training.run import LAST_CHECKPOINT, RECORD, load_run
from vexkd_model.types import BevGrid

pytestmark = pytest.mark.usefixtures("one_thread")


def failure(*words):
    with pytest.raises(SystemExit) as error:
        main(["plot", "masks", *map(str, words)])
    assert error.value.code.startswith("vexkd: ") and "\n" not in error.value.code
    return error.value.code


def rows_of(figure):
    return [[axes for axes in part.axes if axes.get_label() != "<colorbar>"] for part in figure.subfigs]


@pytest.fixture
def rows(runs, of_first_frame, saved, tmp_path):
    main(
        [
            "plot",
            "masks",
            str(runs / "detection"),
            str(runs / "segmentation"),
            *of_first_frame,
            "--out",
            str(tmp_path / "masks.png"),
        ]
    )
    assert cv2.imread(str(tmp_path / "masks.png")).shape[1] == 1170
    return rows_of(saved["masks.png"])


def test_the_panels_hold_the_masks_that_the_distillation_itself_would_use(rows, runs, tiny_index):
    for row, name, levels in zip(rows, ("detection", "segmentation"), (("low", "high"), ("high",)), strict=True):
        student, config, _ = load_run(runs / name)
        distiller, _ = load_distiller(runs / name)
        of_teacher = distiller.teacher.config
        sample = load_sample(tiny_index, 0, config)
        seen = replace(sample, frame=load_frame(tiny_index, 0, of_teacher))
        batch = replace(collate_for(config)([sample]), teacher=collate_for(of_teacher)([seen]).sensors)
        distiller(student.eval()(batch.sensors).features, batch)
        for axes, level in zip(row[1:], ("low", "high"), strict=True):
            if level not in levels:
                assert not axes.images and axes.texts[0].get_text() == "low level: not distilled"
                continue
            shown = np.asarray(axes.images[0].get_array()).T
            np.testing.assert_allclose(shown, distiller.drawn[level][0, 0].numpy(), atol=1e-5)
            assert 0 < shown.min() < shown.max() < 1
            assert axes.get_title() == f"{level} level, mask {shown.min():.2f} … {shown.max():.2f}"
            assert np.mean((shown >= axes.images[0].get_clim()[0]) & (shown <= axes.images[0].get_clim()[1])) > 0.98
            assert axes.images[0].get_extent() == [-54, 54, -54, 54] and axes.images[0].origin == "lower"


def test_the_boxes_that_hold_lidar_points_lie_on_scene_and_masks(rows, tiny_index):
    boxes = tiny_index[0].seen_boxes
    assert 0 < len(boxes) < len(tiny_index[0].boxes)
    for axes in rows[0]:
        drawn = [
            path.vertices[:4]
            for found in axes.collections
            if isinstance(found, PolyCollection)
            for path in found.get_paths()
        ]
        for corners in corners_bev(boxes.values)[..., ::-1]:
            assert any(
                np.allclose(np.sort(vertices, axis=0), np.sort(corners, axis=0), atol=1e-4) for vertices in drawn
            )


def test_a_mask_that_is_one_everywhere_is_bright_and_its_scale_ends_at_0(tiny_index):
    grid = BevGrid(-54.0, 54.0, -54.0, 54.0, 1.8)
    ones = DrawnMasks("run", {"low": np.ones(grid.shape, np.float32)}, grid)
    ((_, low, _),) = rows_of(masks_figure(load_scene(tiny_index, 0), [ones]))
    assert low.images[0].get_clim() == (0, 1)


def test_each_row_is_named_after_its_run_task_and_masks(saved, rows):
    titles = [part.get_suptitle() for part in saved["masks.png"].subfigs]
    assert titles == [
        "detection: lidar_pillar_small, detection; masks: fusion queries",
        "segmentation: lidar_pillar_small, segmentation; masks: fusion queries",
    ]


def test_a_distiller_is_loaded_with_the_weights_that_it_had_learned(runs):
    state = torch.load(runs / "detection" / LAST_CHECKPOINT, weights_only=True)["state_dict"]
    learned = {
        name.removeprefix("distiller."): tensor for name, tensor in state.items() if name.startswith("distiller.")
    }
    distiller, config = load_distiller(runs / "detection")
    assert isinstance(distiller, Distiller) and config.segmentation is None and not distiller.training
    assert learned and all(torch.equal(tensor, learned[name]) for name, tensor in distiller.state_dict().items())


def test_a_teacher_that_has_moved_is_named_by_an_option(runs, of_first_frame, saved, tmp_path):
    run = shutil.copytree(runs / "detection", tmp_path / "run")
    record = json.loads((run / RECORD).read_text())
    record["teacher"]["from"] = str(tmp_path / "gone")
    (run / RECORD).write_text(json.dumps(record))
    words = [str(run), *of_first_frame, "--out", str(tmp_path / "a.png")]
    assert failure(*words) == (
        f"vexkd: {tmp_path / 'gone'}: the teacher of {run} is not there; say with --teacher where it lies now"
    )
    main(["plot", "masks", *words, "--teacher", str(runs / "teacher")])
    assert len(rows_of(saved["a.png"])) == 1
    assert "is not the teacher of" in failure(*words, "--teacher", runs / "plain")


def test_a_run_without_masks_and_a_folder_without_a_run_are_one_line(runs, of_first_frame, tmp_path):
    words = [*of_first_frame, "--out", tmp_path / "a.png"]
    assert f"{runs / 'plain'}: was trained without a teacher" in failure(runs / "plain", *words)
    assert f"{tmp_path}: is no run" in failure(tmp_path, *words)
    assert not (tmp_path / "a.png").exists()

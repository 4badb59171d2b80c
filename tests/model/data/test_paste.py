"""Pasted objects stand free, bring their points along, and cover what was behind them."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.street import THINGS
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.config.training import PasteConfig
from vexkd_model.data.dataset import TrainingSet, read_frame, with_ground_truth
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.paste import ObjectPaster
from vexkd_model.data.point_database import PointDatabase, crops
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError
from vexkd_model.geometry.boxes import points_in_boxes
from vexkd_model.geometry.nms import rotated_iou_bev
from vexkd_model.types import DETECTION_CLASSES, Boxes

BUS, CAR = DETECTION_CLASSES.index("bus"), DETECTION_CLASSES.index("car")
SETTINGS = PasteConfig(objects={"bus": 1, "car": 6, "pedestrian": 3}, min_points=5, off_for_last_epochs=2)


@pytest.fixture(scope="module")
def database(tiny_index):
    return PointDatabase.of(tiny_index, sweeps=2)


@given(st.integers(0, 10_000))
def test_crops_are_the_points_in_the_boxes(seed):
    random = np.random.default_rng(seed)
    points = random.uniform([-20, -20, -2, 0, 0], [20, 20, 2, 255, 1], (2000, 5)).astype(np.float32)
    boxes = np.column_stack(
        [
            random.uniform(-20, 20, (9, 2)),
            random.uniform(-1, 1, 9),
            random.uniform(0.3, 9, (9, 3)),
            random.uniform(-4, 4, 9),
        ]
    ).astype(np.float32)
    for row, found in zip(points_in_boxes(points, boxes), crops(points, boxes), strict=True):
        np.testing.assert_array_equal(found, np.flatnonzero(row))


def test_crops_of_nothing_are_empty():
    assert crops(np.empty((0, 5), np.float32), np.ones((2, 9), np.float32))[1].shape == (0,)
    assert crops(np.ones((4, 5), np.float32), np.empty((0, 9), np.float32)) == []


def test_the_database_holds_every_object_with_the_points_in_its_box(tiny_index, database):
    expected = []
    for i in range(len(tiny_index)):
        record, points = tiny_index[i], tiny_index[i].load_points(2)
        inside = points_in_boxes(points, record.boxes.values)
        expected += [
            (label, box, points[row])
            for label, box, row, seen in zip(
                record.boxes.labels, record.boxes.values, inside, record.lidar_points > 0, strict=True
            )
            if seen
        ]
    assert len(database) == len(expected) and database.counts.sum() == len(database.all_points)
    for k, (label, box, points) in enumerate(expected):
        assert database.labels[k] == label
        np.testing.assert_array_equal(database.boxes[k], box)
        np.testing.assert_array_equal(database.points(k), points)


def test_the_database_is_made_once_and_is_the_same_by_several_processes(tiny_index, database, monkeypatch):
    stamp = (database.folder / "points.bin").stat().st_mtime_ns
    assert PointDatabase.of(tiny_index, sweeps=2).folder.joinpath("points.bin").stat().st_mtime_ns == stamp
    monkeypatch.setattr("vexkd_model.data.point_database.FRAMES_PER_JOB", 1)
    shared = PointDatabase.of(tiny_index, sweeps=1, workers=2)
    alone = [tiny_index[i].seen_boxes for i in range(len(tiny_index))]
    np.testing.assert_array_equal(shared.boxes, np.concatenate([boxes.values for boxes in alone]))
    np.testing.assert_array_equal(shared.points(0), database.points(0)[database.points(0)[:, 4] == 0])


def test_an_interrupted_database_does_not_exist(tiny_index, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vexkd_model.data.point_database.crops", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PointDatabase.of(tiny_index, sweeps=7)
    assert not list(tiny_index.folder.glob("objects_of_7_sweeps*"))


def test_what_a_killed_process_left_is_in_nobodys_way(tiny_index):
    for name in (
        f"objects_of_9_sweeps.{os.getpid()}.partial",
        "objects_of_9_sweeps.1.partial",
        "objects_of_9_sweeps.partial",
    ):
        (tiny_index.folder / name).mkdir()
        (tiny_index.folder / name / "points.bin").write_bytes(b"half of it")
    assert len(PointDatabase.of(tiny_index, sweeps=9))
    assert [path.name for path in tiny_index.folder.glob("objects_of_9_sweeps*")] == ["objects_of_9_sweeps"]


def test_of_two_processes_one_makes_the_database_and_the_other_waits_for_it(tiny_index, tiny_index_dir, monkeypatch):
    code = (
        "from pathlib import Path; from vexkd_model.data.index import FrameIndex; "
        "from vexkd_model.data.point_database import PointDatabase; print('started', flush=True); "
        f"print(len(PointDatabase.of(FrameIndex.open(Path({str(tiny_index_dir)!r}), 'mini_train'), sweeps=5)))"
    )
    other = None

    def while_another_starts(*arguments):
        nonlocal other
        if other is None:  # in the first frame
            other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            assert other.stdout.readline() == "started\n"
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.5)
        return crops(*arguments)

    monkeypatch.setattr("vexkd_model.data.point_database.crops", while_another_starts)
    database = PointDatabase.of(tiny_index, sweeps=5)
    made = (database.folder / "points.bin").stat().st_mtime_ns
    assert other.communicate()[0] == f"{len(database)}\n" and other.returncode == 0
    assert (database.folder / "points.bin").stat().st_mtime_ns == made


def test_a_split_without_objects_has_nothing_to_paste(tmp_path):
    unseen = tuple(replace(thing, points=0) for thing in THINGS)
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0061": 1}, with_map=False, cameras=(), things=unseen)
    prepare(root, "v1.0-mini", tmp_path / "index", ["mini_train"])
    with pytest.raises(UserError, match=r"remove training\.paste"):
        PointDatabase.of(FrameIndex.open(tmp_path / "index", "mini_train"), sweeps=4)


def plain_sample(index, i):
    """Frame i with two sweeps, without augmentation."""
    return with_ground_truth(read_frame(index[i], sweeps=2), index, i)


def pasted(database, tiny_index, seed, frame=0):
    sample = plain_sample(tiny_index, frame)
    points, boxes = ObjectPaster(database, SETTINGS, 10).paste(
        sample.frame.points, sample.boxes, np.random.default_rng(seed)
    )
    return sample, points, boxes


@pytest.mark.parametrize("seed", range(5))
def test_what_is_pasted_comes_last_with_its_points_and_stands_free(tiny_index, database, seed):
    sample, points, boxes = pasted(database, tiny_index, seed)
    old, new = len(sample.boxes), len(boxes) - len(sample.boxes)
    assert new >= 1
    np.testing.assert_array_equal(boxes.values[:old], sample.boxes.values)
    np.testing.assert_array_equal(boxes.labels[:old], sample.boxes.labels)
    overlap = rotated_iou_bev(*[torch.from_numpy(boxes.values)] * 2).numpy() - np.eye(len(boxes))
    assert overlap[old:].max() <= 1e-6
    tail = points
    for k in range(len(boxes) - 1, old - 1, -1):
        inside = points_in_boxes(points, boxes.values[k : k + 1])[0]
        object_points = tail[len(tail) - inside.sum() :]
        assert inside.sum() >= SETTINGS.min_points
        assert points_in_boxes(object_points, boxes.values[k : k + 1]).all()  # nothing of the frame's own is left there
        tail = tail[: len(tail) - inside.sum()]
    outside = ~points_in_boxes(sample.frame.points, boxes.values[old:]).any(axis=0)
    np.testing.assert_array_equal(tail, sample.frame.points[outside])


def test_a_class_is_filled_up_to_its_number_and_never_beyond(tiny_index, database):
    for seed in range(10):
        sample, _, boxes = pasted(database, tiny_index, seed)
        for name, wanted in SETTINGS.objects.items():
            label = DETECTION_CLASSES.index(name)
            had, has = ((some.labels == label).sum() for some in (sample.boxes, boxes))
            assert had <= has <= max(had, wanted)
        assert (boxes.labels == BUS).sum() == 1  # none stands in this frame, and the one of another has room
        others = [DETECTION_CLASSES.index(name) for name in DETECTION_CLASSES if name not in SETTINGS.objects]
        assert np.isin(boxes.labels, others).sum() == np.isin(sample.boxes.labels, others).sum()


def test_an_object_with_too_few_points_is_not_worth_pasting(tiny_index, database):
    settings = SETTINGS.model_copy(update={"min_points": 10_000})
    sample = plain_sample(tiny_index, 0)
    points, boxes = ObjectPaster(database, settings, 10).paste(
        sample.frame.points, sample.boxes, np.random.default_rng(0)
    )
    assert points is sample.frame.points and len(boxes) == len(sample.boxes)


def test_an_empty_frame_is_filled_too(database):
    nothing = Boxes(np.empty((0, 9), np.float32), np.empty(0, np.int64))
    points, boxes = ObjectPaster(database, SETTINGS, 10).paste(
        np.empty((0, 5), np.float32), nothing, np.random.default_rng(0)
    )
    assert len(boxes) and points.dtype == np.float32 and boxes.values.dtype == np.float32
    assert len(points) == points_in_boxes(points, boxes.values).any(axis=0).sum()


def test_the_last_epochs_see_frames_as_they_are(tiny_index, database):
    from vexkd_model.config.training import AugmentConfig

    augment = AugmentConfig(rotation=0, scale=0, translation=0, flip=False)
    data = TrainingSet(tiny_index, 2, augment, 0, paster=ObjectPaster(database, SETTINGS, epochs=10))
    plain = [len(TrainingSet(tiny_index, 2, augment, 0)[epoch, 0].boxes) for epoch in range(10)]
    found = [len(data[epoch, 0].boxes) for epoch in range(10)]
    assert all(a > b for a, b in zip(found[:8], plain[:8], strict=True)) and found[8:] == plain[8:]

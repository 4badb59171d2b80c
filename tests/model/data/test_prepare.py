"""The frame index says of a dataset what the dataset was made of."""

import json
import pickle
import shutil

import numpy as np
import pytest
from tiny_nuscenes import (
    EGO_SPEED,
    HEADING,
    KEYFRAME_S,
    ORIGIN,
    SCENES,
    SENSOR_XYZ,
    SWEEP_S,
    boxes_in_base,
    quaternion,
    to_global,
    write_tiny_nuscenes,
)

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError
from vexkd_model.types import DETECTION_CLASSES

CLASS_OF_CATEGORY = {
    "vehicle.car": "car", "vehicle.truck": "truck", "vehicle.bus.rigid": "bus", "movable_object.barrier": "barrier",
    "vehicle.motorcycle": "motorcycle", "vehicle.bicycle": "bicycle", "human.pedestrian.adult": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
}  # fmt: skip


def test_each_mini_split_holds_its_scene_in_order(tiny_index_dir):
    for split, (scene, keyframes) in zip(("mini_train", "mini_val"), SCENES.items(), strict=True):
        index = FrameIndex.open(tiny_index_dir, split)
        assert [index[i].token for i in range(len(index))] == [f"{scene}-{k}" for k in range(keyframes)]
        assert {index[i].scene for i in range(len(index))} == {scene}


def test_boxes_are_those_of_the_street_seen_from_the_vehicle(tiny_index):
    for k in range(len(tiny_index)):
        record, expected = tiny_index[k], [(t, row) for t, row in boxes_in_base(k) if t.category in CLASS_OF_CATEGORY]
        assert [DETECTION_CLASSES[label] for label in record.boxes.labels] == [
            CLASS_OF_CATEGORY[thing.category] for thing, _ in expected]  # fmt: skip
        np.testing.assert_array_equal(record.lidar_points, [thing.points for thing, _ in expected])
        rows = np.array([row for _, row in expected])
        np.testing.assert_allclose(record.boxes.values[:, :6], rows[:, :6], atol=1e-4)
        np.testing.assert_allclose(np.cos(record.boxes.values[:, 6] - rows[:, 6]), 1.0, atol=1e-6)
        seen_twice = np.array([not thing.keyframes for thing, _ in expected])
        np.testing.assert_allclose(record.boxes.values[seen_twice, 7:], rows[seen_twice, 7:], atol=1e-3)
        assert np.isnan(record.boxes.values[~seen_twice, 7:]).all()  # seen once: its velocity is unknown


def test_the_newest_sweep_comes_first_each_with_its_own_pose(tiny_index):
    record = tiny_index[2]
    ages = [(record.stamp_ns - sweep.stamp_ns) * 1e-9 for sweep in record.sweeps]
    np.testing.assert_allclose(ages, [0, 0.05, 0.1, 0.5, 0.55, 0.6, 1.0, 1.05, 1.1], atol=1e-6)
    for sweep, age in zip(record.sweeps, ages, strict=True):
        along = EGO_SPEED * (2 * KEYFRAME_S - age)
        np.testing.assert_allclose(sweep.odom_from_base[:2, 3], to_global([along, 0.0]), atol=1e-4)
        heading = np.arctan2(sweep.odom_from_base[1, 0], sweep.odom_from_base[0, 0])
        assert heading == pytest.approx(HEADING) and quaternion(HEADING)[3] == pytest.approx(np.sin(HEADING / 2))
        np.testing.assert_allclose(sweep.base_from_sensor[:3, 3], SENSOR_XYZ)
    assert len(tiny_index[0].sweeps) == 3  # no more before the scene's first keyframe


def test_positions_keep_millimetres_in_a_town_of_kilometres(tiny_index):
    np.testing.assert_allclose(tiny_index[0].global_from_base[:2, 3], ORIGIN, atol=1e-9)
    assert tiny_index[1].sweeps[1].stamp_ns - tiny_index[0].stamp_ns == round((KEYFRAME_S - SWEEP_S) * 1e9)


def test_a_complete_index_is_kept_and_force_writes_it_anew(tiny_dataroot, tmp_path):
    (folder,) = prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    before = (folder / "frames.arrow").stat().st_mtime_ns
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    assert (folder / "frames.arrow").stat().st_mtime_ns == before
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"], force=True)
    assert (folder / "frames.arrow").stat().st_mtime_ns > before


def test_an_interrupted_run_leaves_no_index_and_the_next_run_completes(tiny_dataroot, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vexkd_model.data.prepare._boxes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    with pytest.raises(UserError, match="vexkd prepare"):
        FrameIndex.open(tmp_path, "mini_val")
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    assert len(FrameIndex.open(tmp_path, "mini_val")) == SCENES["scene-0103"]


def test_without_the_map_expansion_there_are_no_masks(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, with_map=False)
    prepare(root, "v1.0-mini", tmp_path)
    assert FrameIndex.open(tmp_path, "mini_val").map_mask(0) is None


def test_the_index_travels_to_a_worker_process(tiny_index):
    tiny_index[0], tiny_index.map_mask(0)  # opens the memory maps
    there = pickle.loads(pickle.dumps(tiny_index))
    np.testing.assert_array_equal(there[1].boxes.values, tiny_index[1].boxes.values)
    np.testing.assert_array_equal(there.map_mask(1), tiny_index.map_mask(1))


@pytest.mark.parametrize(("damage", "expected"), [
    (lambda root: shutil.rmtree(root / "v1.0-mini"), "no such folder"),
    (lambda root: (root / "v1.0-mini" / "sample.json").unlink(), "v1.0-mini.*sample.json"),
    (lambda root: (root / "v1.0-mini" / "sample.json").write_text("["), "v1.0-mini: not a complete"),
    (lambda root: (root / "samples" / "LIDAR_TOP" / "scene-0103-0-0.pcd.bin").unlink(), "scene-0103-0-0.*missing"),
    (lambda root: (root / "samples" / "LIDAR_TOP" / "scene-0103-0-0.pcd.bin").write_bytes(b"1234567"), "truncated"),
    (lambda root: next((root / "maps" / "expansion").iterdir()).unlink(), "map expansion is missing"),
])  # fmt: skip
def test_a_damaged_dataset_is_one_line_that_names_the_file(tmp_path, damage, expected):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    damage(root)
    with pytest.raises(UserError, match=expected) as error:
        prepare(root, "v1.0-mini", tmp_path / "index")
    assert "\n" not in str(error.value) and str(root) in str(error.value)


@pytest.mark.parametrize(("version", "splits", "expected"), [
    ("v1.0-maxi", None, "v1.0-maxi.*choose one of"),
    ("v1.0-mini", ["winter"], "winter.*no official split"),
    ("v1.0-mini", ["test"], "no scene of split test"),
])  # fmt: skip
def test_a_wrong_version_or_split_is_named(tiny_dataroot, tmp_path, version, splits, expected):
    with pytest.raises(UserError, match=expected):
        prepare(tiny_dataroot, version, tmp_path, splits)


@pytest.mark.parametrize(("text", "expected"), [("{", "not a frame index"), ('{"format": 99}', "index format 99")])
def test_an_index_of_another_kind_is_refused(tmp_path, text, expected):
    (tmp_path / "mini_val").mkdir()
    (tmp_path / "mini_val" / "index.json").write_text(text)
    with pytest.raises(UserError, match=rf"index\.json: {expected}"):
        FrameIndex.open(tmp_path, "mini_val")


def test_a_sweep_that_vanished_or_was_cut_after_prepare_is_named(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    prepare(root, "v1.0-mini", tmp_path)
    sweep = FrameIndex.open(tmp_path, "mini_val")[0].sweeps[0]
    assert sweep.load().points.shape[1] == 4
    sweep.path.write_bytes(sweep.path.read_bytes()[:-3])
    with pytest.raises(UserError, match="truncated"):
        sweep.load()
    sweep.path.unlink()
    with pytest.raises(UserError, match=str(sweep.path)):
        sweep.load()


def test_the_manifest_says_where_the_data_lies(tiny_dataroot, tiny_index_dir):
    manifest = json.loads((tiny_index_dir / "mini_train" / "index.json").read_text())
    assert manifest["dataroot"] == str(tiny_dataroot) and manifest["scenes"] == ["scene-0061"]


def test_a_real_keyframe_holds_the_points_that_its_annotations_count(keyframe_dataroot, tmp_path):
    from vexkd_model.data.dataset import load_frame
    from vexkd_model.geometry.boxes import points_in_boxes

    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    record = FrameIndex.open(tmp_path, "mini_train")[0]
    counted = points_in_boxes(load_frame(record, 1).points, record.boxes.values).sum(axis=1)
    agree = np.abs(counted - record.lidar_points) <= np.maximum(1, 0.05 * record.lidar_points)
    assert len(counted) == 68 and agree.sum() >= 66

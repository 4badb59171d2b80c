"""The frame index says of a dataset what the dataset was made of."""

import json
import pickle
import shutil

import cv2
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

from vexkd_model.config import AugmentConfig
from vexkd_model.data.dataset import TrainingSet
from vexkd_model.data.file_checks import check_row
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError
from vexkd_model.types import ATTRIBUTE_NAMES, DETECTION_CLASSES

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


def test_attributes_are_those_of_the_things(tiny_index):
    for k in range(len(tiny_index)):
        things = [thing for thing, _ in boxes_in_base(k) if thing.category in CLASS_OF_CATEGORY]
        named = [ATTRIBUTE_NAMES[number] if number >= 0 else "" for number in tiny_index[k].attributes]
        assert named == [thing.attribute for thing in things]


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
        patch.setattr("vexkd_model.data.tables._boxes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    with pytest.raises(UserError, match="vexkd prepare"):
        FrameIndex.open(tmp_path, "mini_val")
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    assert len(FrameIndex.open(tmp_path, "mini_val")) == SCENES["scene-0103"]


def test_an_interrupted_run_is_resumed_at_the_scene_where_it_stopped(tmp_path, monkeypatch):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1, "scene-0916": 2}), tmp_path / "index"
    looked_at = []

    def check_until_interrupted(row, *_):
        looked_at.append(row["token"])
        if row["token"] == "scene-0916-1":
            raise KeyboardInterrupt
        return check_row(row, *_)

    with monkeypatch.context() as patch:
        patch.setattr("vexkd_model.data.prepare.check_row", check_until_interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, "v1.0-mini", index)
        assert not (index / "mini_val").exists() and looked_at[0] == "scene-0103-0"
        looked_at.clear()
        patch.setattr("vexkd_model.data.prepare.check_row", lambda row, *_: looked_at.append(row["token"])
                      or check_row(row, *_))
        prepare(root, "v1.0-mini", index)
    assert looked_at == ["scene-0916-0", "scene-0916-1"]
    resumed = FrameIndex.open(index, "mini_val")
    assert [resumed[i].token for i in range(3)] == ["scene-0103-0", *looked_at]
    assert all(resumed.map_mask(i).any() for i in range(3)) and not list(index.glob("*.partial"))


def test_several_processes_write_the_same_index(tiny_dataroot, tiny_index_dir, tmp_path):
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_train"], workers=2)
    for name in ("frames.arrow", "map_masks.npy", "index.json"):
        assert (tmp_path / "mini_train" / name).read_bytes() == (tiny_index_dir / "mini_train" / name).read_bytes()


def test_no_process_at_all_is_refused(tiny_dataroot, tmp_path):
    with pytest.raises(UserError, match="--workers 0: must be at least 1"):
        prepare(tiny_dataroot, "v1.0-mini", tmp_path, workers=0)


def test_other_tables_or_a_new_map_make_a_new_index(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}), tmp_path / "index"
    expansion = root / "maps" / "expansion"
    expansion.rename(root / "elsewhere")
    prepare(root, "v1.0-mini", index)
    assert not FrameIndex.open(index, "mini_val").has_maps
    (root / "elsewhere").rename(expansion)
    prepare(root, "v1.0-mini", index)
    assert FrameIndex.open(index, "mini_val").map_mask(0).any()
    table = root / "v1.0-mini" / "sample_annotation.json"
    table.write_text(json.dumps([row | {"num_lidar_pts": 7} for row in json.loads(table.read_text())]))
    prepare(root, "v1.0-mini", index)
    assert (FrameIndex.open(index, "mini_val")[0].lidar_points == 7).all()


def test_the_test_split_has_no_annotations(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0077": 2}, version="v1.0-test")
    (folder,) = prepare(root, "v1.0-test", tmp_path / "index")
    index = FrameIndex.open(tmp_path / "index", "test")
    assert folder.name == "test" and len(index) == 2
    assert len(index[1].boxes) == 0 and len(index[1].cameras) == 6 and len(index[1].sweeps) == 6
    sample = TrainingSet(index, 2, AugmentConfig(rotation=0.5, scale=0.1, translation=0.5, flip=True), 0)[0, 1]
    assert sample.boxes.values.shape == (0, 9) and len(sample.frame.points)


def bad_files(root):
    """Harm five files of scene-0103 and name them: the second keyframe's own sweep, an older sweep, three images."""
    lidar, sweeps = root / "samples" / "LIDAR_TOP" / "scene-0103-1-0.pcd.bin", root / "sweeps" / "LIDAR_TOP"
    older = sweeps / "scene-0103-0-1.pcd.bin"
    images = [root / "samples" / name / "scene-0103-0.jpg" for name in ("CAM_FRONT", "CAM_BACK", "CAM_BACK_LEFT")]
    lidar.write_bytes(b"short")
    older.unlink()
    images[0].write_bytes(images[0].read_bytes()[:-200])
    images[1].write_bytes(b"not a picture")
    images[2].unlink()
    return [lidar, older, *images]


def test_every_bad_file_is_reported_and_no_index_is_written(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2}), tmp_path / "index"
    harmed = bad_files(root)
    with pytest.raises(UserError, match=r"\(and 4 more, see .*mini_val_problems\.txt\).*--skip-bad") as error:
        prepare(root, "v1.0-mini", index)
    lines = (index / "mini_val_problems.txt").read_text().splitlines()
    assert sorted(line.split(": ")[0] for line in lines) == sorted(map(str, harmed))
    assert str(error.value).startswith(lines[0]) and not (index / "mini_val").exists()


def test_mended_files_complete_the_index(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2}), tmp_path / "index"
    for path in bad_files(root):
        with pytest.raises(UserError):
            prepare(root, "v1.0-mini", index)
        whole = write_tiny_nuscenes(tmp_path / path.stem / path.parent.name, {"scene-0103": 2})
        shutil.copy(whole / path.relative_to(root), path)
    prepare(root, "v1.0-mini", index)
    assert len(FrameIndex.open(index, "mini_val")[1].cameras) == 6 and not (index / "mini_val_problems.txt").exists()


def test_skip_bad_goes_on_without_the_bad_files_and_counts_them(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2}), tmp_path / "index"
    bad_files(root)
    prepare(root, "v1.0-mini", index, skip_bad=True)
    manifest = json.loads((index / "mini_val" / "index.json").read_text())
    assert (manifest["frames"], manifest["skipped_frames"], manifest["skipped_files"]) == (1, 1, 5)
    assert len((index / "mini_val_problems.txt").read_text().splitlines()) == 5
    frames = FrameIndex.open(index, "mini_val")
    assert len(frames) == 1 and len(frames[0].sweeps) == 2
    assert [camera.name for camera in frames[0].cameras] == ["CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT"]
    assert frames.map_mask(0).any()
    prepare(root, "v1.0-mini", index, skip_bad=True)  # is complete as far as it can be
    with pytest.raises(UserError):  # but no index without gaps
        prepare(root, "v1.0-mini", index)


@pytest.mark.parametrize(("table", "key", "cameras", "sweeps"), [
    ("calibrated_sensor", "camera_intrinsic", 5, 3), ("calibrated_sensor", "translation", 5, 3),
    ("ego_pose", "rotation", 6, 2),
])  # fmt: skip
def test_a_calibration_that_is_no_number_is_named_by_its_table(tmp_path, table, key, cameras, sweeps):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}), tmp_path / "index"
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    row = next(row for row in rows if row["token"] in ("CAM_FRONT", "scene-0103-0-1"))
    row[key] = (np.array(row[key]) * np.nan).tolist()
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=rf"{table}\.json: .* of sample scene-0103-0 is not finite"):
        prepare(root, "v1.0-mini", index)
    prepare(root, "v1.0-mini", index, skip_bad=True)
    record = FrameIndex.open(index, "mini_val")[0]
    assert (len(record.cameras), len(record.sweeps)) == (cameras, sweeps)


def test_where_nothing_can_be_read_even_skip_bad_gives_up(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    shutil.rmtree(root / "samples")
    with pytest.raises(UserError, match="no keyframe of mini_val can be read"):
        prepare(root, "v1.0-mini", tmp_path / "index", skip_bad=True)


def test_an_image_of_another_size_than_its_table_says_is_a_bad_file(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    path = root / "samples" / "CAM_FRONT" / "scene-0103-0.jpg"
    cv2.imwrite(str(path), np.zeros((90, 160, 3), np.uint8))
    with pytest.raises(UserError, match=r"160×90 px where sample_data\.json says 320×180"):
        prepare(root, "v1.0-mini", tmp_path / "index")


def test_an_index_of_another_version_or_of_moved_data_is_refused(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}), tmp_path / "index"
    prepare(root, "v1.0-mini", index)
    assert len(FrameIndex.open(index, "mini_val", root, "v1.0-mini")) == 1
    with pytest.raises(UserError, match=r"index\.json: index of version v1\.0-mini, not v1\.0-trainval"):
        FrameIndex.open(index, "mini_val", root, "v1.0-trainval")
    with pytest.raises(UserError, match=r"index of the data in .*data, not in .*copy; run `vexkd prepare .*copy"):
        FrameIndex.open(index, "mini_val", tmp_path / "copy", "v1.0-mini")
    root.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"its data is no longer in .*data; run `vexkd prepare"):
        FrameIndex.open(index, "mini_val")
    prepare(tmp_path / "moved", "v1.0-mini", index)
    assert FrameIndex.open(index, "mini_val", tmp_path / "moved")[0].sweeps[0].load().points.size


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
    (lambda root: next((root / "maps" / "expansion").iterdir()).write_text("{"), "not a map expansion"),
    (lambda root: next((root / "maps").glob("*.png")).unlink(), "v1.0-mini: not a complete"),
    (lambda root: (root / "v1.0-mini" / "ego_pose.json").write_text("[]"), "scene-0103: the tables hold no"),
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

"""The frame index says of a dataset what the dataset was made of."""

import json
import pickle

import numpy as np
import pytest
from support.rig import LIDAR_XYZ
from support.street import EGO_SPEED, HEADING, KEYFRAME_S, ORIGIN, boxes_in_base, quaternion, rotation, to_global
from support.tiny_nuscenes import SCENES, SWEEP_S, write_tiny_nuscenes

from vexkd_model.config.training import AugmentConfig
from vexkd_model.data.dataset import TrainingSet
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.types import ATTRIBUTE_NAMES, DETECTION_CLASSES

CLASS_OF_CATEGORY = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.rigid": "bus",
    "movable_object.barrier": "barrier",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
}


def test_each_mini_split_holds_its_scene_in_order(tiny_index_dir):
    for split, (scene, keyframes) in zip(("mini_train", "mini_val"), SCENES.items(), strict=True):
        index = FrameIndex.open(tiny_index_dir, split)
        assert [index[i].token for i in range(len(index))] == [f"{scene}-{k}" for k in range(keyframes)]
        assert {index[i].scene for i in range(len(index))} == {scene}


def test_boxes_are_those_of_the_street_seen_from_the_vehicle(tiny_index):
    for k in range(len(tiny_index)):
        record, expected = tiny_index[k], [(t, row) for t, row in boxes_in_base(k) if t.category in CLASS_OF_CATEGORY]
        assert [DETECTION_CLASSES[label] for label in record.boxes.labels] == [
            CLASS_OF_CATEGORY[thing.category] for thing, _ in expected
        ]
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
        assert heading == pytest.approx(HEADING)
        assert quaternion(rotation(HEADING))[3] == pytest.approx(np.sin(HEADING / 2))
        np.testing.assert_allclose(sweep.base_from_sensor[:3, 3], LIDAR_XYZ)
    assert len(tiny_index[0].sweeps) == 3  # no more before the scene's first keyframe


def test_attributes_are_those_of_the_things(tiny_index):
    for k in range(len(tiny_index)):
        things = [thing for thing, _ in boxes_in_base(k) if thing.category in CLASS_OF_CATEGORY]
        named = [ATTRIBUTE_NAMES[number] if number >= 0 else "" for number in tiny_index[k].attributes]
        assert named == [thing.attribute for thing in things]


def test_positions_keep_millimetres_in_a_town_of_kilometres(tiny_index):
    np.testing.assert_allclose(tiny_index[0].global_from_base[:2, 3], ORIGIN, atol=1e-9)
    assert tiny_index[1].sweeps[1].stamp_ns - tiny_index[0].stamp_ns == round((KEYFRAME_S - SWEEP_S) * 1e9)


def test_the_test_split_has_no_annotations(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0077": 2}, version="v1.0-test")
    (folder,) = prepare(root, "v1.0-test", tmp_path / "index")
    index = FrameIndex.open(tmp_path / "index", "test")
    assert folder.name == "test" and len(index) == 2
    assert len(index[1].boxes) == 0 and len(index[1].cameras) == 6 and len(index[1].sweeps) == 6
    sample = TrainingSet(index, 2, AugmentConfig(rotation=0.5, scale=0.1, translation=0.5, flip=True), 0)[0, 1]
    assert sample.boxes.values.shape == (0, 9) and len(sample.frame.points)


def test_without_the_map_expansion_there_are_no_masks(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, with_map=False)
    prepare(root, "v1.0-mini", tmp_path)
    assert FrameIndex.open(tmp_path, "mini_val").map_mask(0) is None


def test_the_index_travels_to_a_worker_process(tiny_index):
    tiny_index[0], tiny_index.map_mask(0)  # opens the memory maps
    there = pickle.loads(pickle.dumps(tiny_index))
    np.testing.assert_array_equal(there[1].boxes.values, tiny_index[1].boxes.values)
    np.testing.assert_array_equal(there.map_mask(1), tiny_index.map_mask(1))


def test_the_manifest_says_where_the_data_lies(tiny_dataroot, tiny_index_dir):
    manifest = json.loads((tiny_index_dir / "mini_train" / "index.json").read_text())
    assert manifest["dataroot"] == str(tiny_dataroot) and manifest["scenes"] == ["scene-0061"]


def test_a_real_keyframe_holds_the_points_that_its_annotations_count_in_66_of_68_boxes_within_a_point_or_5_percent(
    keyframe_dataroot, tmp_path
):
    """62 agree exactly; of the devkit's own `points_in_box`, 60 do."""
    from vexkd_model.geometry.boxes import points_in_boxes

    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    record = FrameIndex.open(tmp_path, "mini_train")[0]
    counted = points_in_boxes(record.load_points(1), record.boxes.values).sum(axis=1)
    agree = np.abs(counted - record.lidar_points) <= np.maximum(1, 0.05 * record.lidar_points)
    assert len(counted) == 68 and agree.sum() >= 66
    assert (counted == record.lidar_points).sum() >= 60

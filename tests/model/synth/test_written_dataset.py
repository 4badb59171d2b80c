"""Synthetic dataset, read by the unmodified devkit: tables, maps, pictures, official score."""

import json
from itertools import pairwise

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box

from tests.model.synth.conftest import PRESET, SEED, TRAIN_SCENE, VAL_SCENE
from vexkd_model.data.prepare import prepare
from vexkd_model.synth import PRESETS
from vexkd_model.synth.actors import CATEGORIES
from vexkd_model.synth.world import build_world
from vexkd_model.types import DETECTION_CLASSES

KEYFRAMES = PRESETS[PRESET].keyframes
MAP_LAYERS = ["drivable_area", "ped_crossing", "walkway", "stop_line", "carpark_area", "road_divider", "lane_divider"]


def test_the_devkit_finds_both_scenes_with_their_keyframes_and_six_images_each(nusc):
    assert {scene["name"] for scene in nusc.scene} == {TRAIN_SCENE, VAL_SCENE}
    assert len(nusc.sample) == 2 * KEYFRAMES
    for sample in nusc.sample:
        assert len(sample["data"]) == 7
        for channel, token in sample["data"].items():
            late_us = nusc.get("sample_data", token)["timestamp"] - sample["timestamp"]
            assert late_us == 0 if channel == "LIDAR_TOP" else -40_000 <= late_us <= 0


def test_every_scene_has_a_calibration_and_every_image_an_ego_pose_of_its_own(nusc):
    assert len(nusc.calibrated_sensor) == 2 * 7
    for sample in nusc.sample:
        records = [nusc.get("sample_data", token) for token in sample["data"].values()]
        poses = [nusc.get("ego_pose", record["ego_pose_token"]) for record in records]
        assert [pose["timestamp"] for pose in poses] == [record["timestamp"] for record in records]
        assert len({pose["timestamp"] for pose in poses}) == 7


def test_records_are_chained_in_time_order(nusc):
    for scene in nusc.scene:
        tokens = _chain(nusc, "sample", scene["first_sample_token"])
        assert tokens[-1] == scene["last_sample_token"]
        assert len(tokens) == scene["nbr_samples"]
        first = nusc.get("sample", tokens[0])["data"]["LIDAR_TOP"]
        while nusc.get("sample_data", first)["prev"]:
            first = nusc.get("sample_data", first)["prev"]
        stamps = [nusc.get("sample_data", t)["timestamp"] for t in _chain(nusc, "sample_data", first)]
        assert len(stamps) == KEYFRAMES * 9
        assert all(a < b for a, b in pairwise(stamps))
    for instance in nusc.instance:
        tokens = _chain(nusc, "sample_annotation", instance["first_annotation_token"])
        assert len(tokens) == instance["nbr_annotations"]
        assert tokens[-1] == instance["last_annotation_token"]
        assert [nusc.get("sample_annotation", t)["prev"] for t in tokens] == ["", *tokens[:-1]]


def _chain(nusc, table: str, token: str) -> list[str]:
    tokens = []
    while token:
        tokens.append(token)
        token = nusc.get(table, token)["next"]
    return tokens


def test_five_sweeps_lie_fifty_milliseconds_apart(nusc):
    for sample in nusc.sample:
        record, stamps = nusc.get("sample_data", sample["data"]["LIDAR_TOP"]), []
        for _ in range(5):
            stamps.append(record["timestamp"])
            record = nusc.get("sample_data", record["prev"]) if record["prev"] else record
        assert np.diff(stamps).tolist() == [-50_000] * 4


def test_annotations_count_the_points_that_the_devkit_finds_in_their_boxes(nusc):
    for sample in nusc.sample[:: KEYFRAMES - 1]:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        stated = np.array([nusc.get("sample_annotation", box.token)["num_lidar_pts"] for box in boxes])
        found = np.array([points_in_box(box, points).sum() for box in boxes])
        assert stated.sum() > 2000
        assert np.abs(stated - found).max() <= 1  # a point on the very face


def test_velocities_by_the_devkit_agree_with_the_attributes(nusc):
    speeds = {"vehicle.moving": [], "vehicle.parked": []}
    for annotation in nusc.sample_annotation:
        for token in annotation["attribute_tokens"]:
            name = nusc.get("attribute", token)["name"]
            if name in speeds and annotation["prev"] and annotation["next"]:
                speeds[name].append(np.linalg.norm(nusc.box_velocity(annotation["token"])))
    assert np.median(speeds["vehicle.moving"]) > 2
    assert max(speeds["vehicle.parked"]) < 1e-6


def test_the_map_expansion_has_road_below_the_vehicle_and_every_layer_somewhere(nusc, dataset):
    filled = np.zeros(len(MAP_LAYERS), bool)
    for sample in nusc.sample:
        scene = nusc.get("scene", sample["scene_token"])
        town = NuScenesMap(str(dataset), nusc.get("log", scene["log_token"])["location"])
        pose = nusc.get("ego_pose", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])
        x, y, _ = pose["translation"]
        assert town.record_on_point(x, y, "drivable_area")
        if sample["token"] in (scene["first_sample_token"], scene["last_sample_token"]):
            mask = town.get_map_mask((x, y, 100, 100), 0.0, MAP_LAYERS, (200, 200))
            filled |= mask.any((1, 2))
            assert mask[0, 100, 100] == 1
    assert filled.all()


def test_the_devkit_draws_a_sample_of_all_seven_sensors_and_lidar_on_the_map(nusc, tmp_path):
    sample = nusc.sample[2]
    nusc.render_sample(sample["token"], out_path=str(tmp_path / "sample.png"), verbose=False)
    nusc.render_sample_data(sample["data"]["LIDAR_TOP"], out_path=str(tmp_path / "map.png"), verbose=False)
    for name in ("sample.png", "map.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_perfect_predictions_of_all_ten_classes_score_a_mean_average_precision_of_one(nusc, tmp_path):
    scene = next(s for s in nusc.scene if s["name"] == VAL_SCENE)
    results = {}
    for token in _chain(nusc, "sample", scene["first_sample_token"]):
        annotations = [nusc.get("sample_annotation", t) for t in nusc.get("sample", token)["anns"]]
        results[token] = [
            {
                "sample_token": token,
                "translation": a["translation"],
                "size": a["size"],
                "rotation": a["rotation"],
                "velocity": np.nan_to_num(nusc.box_velocity(a["token"]))[:2].tolist(),
                "detection_name": category_to_detection_name(a["category_name"]),
                "detection_score": 0.9,
                "attribute_name": nusc.get("attribute", a["attribute_tokens"][0])["name"]
                if a["attribute_tokens"]
                else "",
            }
            for a in annotations
            if a["num_lidar_pts"]
        ]
    path = tmp_path / "results.json"
    path.write_text(
        json.dumps(
            {
                "meta": dict.fromkeys(("use_camera", "use_radar", "use_map", "use_external"), False)
                | {"use_lidar": True},
                "results": results,
            }
        )
    )
    evaluation = DetectionEval(nusc, config_factory("detection_cvpr_2019"), str(path), "val", str(tmp_path), False)
    metrics, _ = evaluation.evaluate()
    present = {box.detection_name for boxes in evaluation.gt_boxes.boxes.values() for box in boxes}
    assert present == set(DETECTION_CLASSES)
    assert metrics.mean_ap == pytest.approx(1.0, abs=1e-9)
    assert metrics.tp_errors["vel_err"] == pytest.approx(0.0, abs=1e-9)
    assert metrics.tp_errors["attr_err"] == pytest.approx(0.0, abs=1e-9)
    for name in DETECTION_CLASSES:
        for error in ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"):
            value = metrics.get_label_tp(name, error)  # not a number where the metric leaves it out: cones, barriers
            assert np.isnan(value) or value == pytest.approx(0.0, abs=1e-6), (name, error)


def test_the_velocity_that_the_devkit_finds_by_differences_is_the_one_that_objects_have(nusc):
    """Every class that has a velocity in the metric: the truth is the slope of the object's path."""
    for name in (TRAIN_SCENE, VAL_SCENE):
        scene = next(s for s in nusc.scene if s["name"] == name)
        preset = PRESETS[PRESET]
        world = build_world(SEED, preset.scene_number(name), preset.duration_s)
        first_us = nusc.get("sample", scene["first_sample_token"])["timestamp"]
        checked = 0
        for instance in nusc.instance:
            tokens = _chain(nusc, "sample_annotation", instance["first_annotation_token"])
            samples = [nusc.get("sample", nusc.get("sample_annotation", t)["sample_token"]) for t in tokens]
            if samples[0]["scene_token"] != scene["token"]:
                continue
            for token, sample in list(zip(tokens, samples, strict=True))[1:-1]:
                time_s = (sample["timestamp"] - first_us) * 1e-6
                known = nusc.get("sample_annotation", token)
                actor = min(
                    (a for a in world.actors if CATEGORIES[a.name] == known["category_name"]),
                    key=lambda a, t=time_s, size=known["size"]: abs(a.size[1] - size[0]) + abs(a.size[0] - size[1]),
                )
                step = 0.01
                ahead, behind = (np.array(actor.track.pose(time_s + d)[:2]) for d in (step, -step))
                true = (ahead - behind) / (2 * step)
                assert nusc.box_velocity(token)[:2] == pytest.approx(true, abs=0.35), actor.name
                checked += 1
        assert checked > 50


def test_prepare_reads_both_splits_with_map_masks(dataset, tmp_path):
    folders = prepare(dataset, PRESETS[PRESET].version, tmp_path / "index")
    assert [folder.name for folder in folders] == ["train", "val"]
    for folder in folders:
        assert json.loads((folder / "index.json").read_text())["frames"] == KEYFRAMES
        assert (folder / "map_masks.npy").is_file()

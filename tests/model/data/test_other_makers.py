"""Datasets of other makers in the schema: names of sensors, categories, scenes, towns and splits of their own."""

import json
import shutil

import numpy as np
import pytest
from nuscenes.eval.detection.utils import category_to_detection_name
from support.other_maker import CAMERAS, NAMES, SCENES, TOWN, VERSION, write_other_dataset
from support.street import boxes_in_base
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.inventory import inventory_text
from vexkd_model.data.prepare import prepare
from vexkd_model.data.requirements import check_trainable
from vexkd_model.data.schema import CATEGORY_OF_CLASS
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import score_split
from vexkd_model.types import DETECTION_CLASSES, Prediction

TRAIN, VAL = SCENES
SPLITS = {"train": [TRAIN], "val": [VAL]}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The dataset with its mapping, prepared: folder, and folder of the index."""
    folder = tmp_path_factory.mktemp("other")
    root = write_other_dataset(folder / "data", splits=SPLITS, names=NAMES)
    prepare(root, VERSION, folder / "index")
    return root, folder / "index"


def test_a_dataset_with_names_of_its_own_is_indexed_as_what_it_shows(other, tiny_index):
    _, folder = other
    index = FrameIndex.open(folder, "train")
    assert [index[i].scene for i in range(2)] == [TRAIN] * 2 and len(FrameIndex.open(folder, "val")) == 1
    for i in range(2):
        mine, theirs = index[i], tiny_index[i]
        assert [camera.name for camera in mine.cameras] == [camera.name for camera in theirs.cameras]
        np.testing.assert_array_equal(mine.boxes.labels, theirs.boxes.labels)
        np.testing.assert_allclose(mine.boxes.values[:, :7], theirs.boxes.values[:, :7], atol=1e-4)
        assert mine.stamp_ns % 1000 == 0 and (mine.attributes == -1).all()


def test_points_that_nobody_counted_are_counted(other):
    record = FrameIndex.open(other[1], "train")[0]
    inside = np.array([thing.points for thing, _ in boxes_in_base(0) if thing.category != "animal"])
    on_the_ground_below = record.lidar_points - inside
    assert (on_the_ground_below >= 0).all() and (on_the_ground_below < 20).all() and 0 in inside


def test_perfect_answers_are_scored_by_the_devkit_on_a_split_of_the_datasets_own(other):
    index = FrameIndex.open(other[1], "val")
    record = index[0]
    values = np.nan_to_num(record.boxes.values)
    perfect = Prediction(
        type(record.boxes)(values, record.boxes.labels),
        np.full(len(values), 0.9, np.float32),
        None,
        None,
        record.stamp_ns,
        record.token,
    )
    result = score_split([perfect], index, sensors=["lidar"]).detection
    assert result.class_ap["car"] > 0.95 and result.class_ap["barrier"] > 0.95 and result.samples == 1


def test_what_is_read_is_named_as_the_dataset_names_it(other):
    root, folder = other
    text = inventory_text(FrameIndex.open(folder, "train").inventory, 2, root / VERSION)
    assert "CAM_FRONT (CAMERA_2 here)" in text and 'names.json can say which sensor of nuScenes one is, {"sens' in text
    assert "animal 2: boxes of no class" in text and f"{TOWN}.json would be it" in text


def test_a_training_on_categories_without_a_class_is_refused_with_the_file_that_gives_them_one(
    other, tmp_path, tiny_config
):
    root = tmp_path / "data"
    shutil.copytree(other[0], root)
    (root / VERSION / "names.json").unlink()
    prepare(root, VERSION, tmp_path / "index", ["val"])
    with pytest.raises(UserError, match=r"its 10 boxes are of no class \(.*truck.*\); give them one in .*names\.json"):
        check_trainable(tiny_config, FrameIndex.open(tmp_path / "index", "val"))


def test_frames_of_another_maker_are_loaded(other, tiny_config):
    frame = load_frame(FrameIndex.open(other[1], "train"), 0, tiny_config)
    assert len(frame.points) > 1000 and np.isfinite(frame.points).all()


def test_the_only_lidar_needs_no_mapping_and_one_of_several_is_asked_for(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, cameras=())
    path = root / "v1.0-mini" / "sensor.json"
    path.write_text(path.read_text().replace("LIDAR_TOP", "lidar_roof"))
    prepare(root, "v1.0-mini", tmp_path / "index")
    assert FrameIndex.open(tmp_path / "index", "mini_val").inventory.own_names == {"LIDAR_TOP": "lidar_roof"}
    sensors = json.loads(path.read_text())
    path.write_text(json.dumps([*sensors, {"token": "b", "channel": "lidar_left", "modality": "lidar"}]))
    with pytest.raises(UserError, match=r'no LIDAR_TOP, only lidar_left, lidar_roof; .* names\.json .*"lidar_roof"'):
        prepare(root, "v1.0-mini", tmp_path / "index")
    (root / "v1.0-mini" / "names.json").write_text('{"sensors": {"lidar_left": "LIDAR_TOP"}}')
    with pytest.raises(UserError, match="has no keyframe of LIDAR_TOP"):
        prepare(root, "v1.0-mini", tmp_path / "index")


def test_a_town_that_nuscenes_never_saw_has_a_map(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, cameras=())
    log, expansion = root / "v1.0-mini" / "log.json", next((root / "maps" / "expansion").iterdir())
    log.write_text(log.read_text().replace(expansion.stem, "munich"))
    content = json.loads(expansion.read_text())
    for layer in ("lane", "road_segment", "road_block", "lane_connector", "connectivity", "canvas_edge"):
        content.pop(layer)  # which no mask needs
    expansion.with_name("munich.json").write_text(json.dumps(content))
    prepare(root, "v1.0-mini", tmp_path / "index")
    index = FrameIndex.open(tmp_path / "index", "mini_val")
    assert index.map_mask(0).any(axis=(1, 2)).all() and index.inventory.maps == {"munich": ""}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, r"splits\.json: no such file, .*write the names of its scenes there, \{"),
        ({"splits": {"train": "all"}}, r"splits\.json: must hold the names of each split's scenes"),
        ({"splits": {"train": [TRAIN, "host-b"]}}, r"splits\.json: train: scene host-b is not in scene\.json"),
        ({"splits": SPLITS, "names": []}, r"names\.json: must hold"),
        ({"splits": SPLITS, "names": {"sensor": {}}}, r"names\.json: sensor: unknown key; there are sensors and categ"),
        (
            {"splits": SPLITS, "names": {"sensors": {"CAMERA_9": "CAM_FRONT"}}},
            r"names\.json: sensors: CAMERA_9 is none of",
        ),
        (
            {"splits": SPLITS, "names": {"categories": {"car": "vehicle.car"}}},
            "categories: vehicle.car is none of barrier",
        ),
        (
            {"splits": SPLITS, "names": {"sensors": dict.fromkeys(list(CAMERAS.values())[:2], "CAM_FRONT")}},
            "CAMERA_2 and CAMERA_1 would both be CAM_FRONT",
        ),
    ],
)
def test_a_mapping_that_cannot_be_right_is_refused_by_name(other, tmp_path, files, expected):
    root = tmp_path / "data"
    shutil.copytree(other[0] / VERSION, root / VERSION, ignore=lambda *_: ["splits.json", "names.json"])
    for name, content in files.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=expected) as error:
        prepare(root, VERSION, tmp_path / "index")
    assert "\n" not in str(error.value)


def test_every_class_has_a_category():
    assert {category_to_detection_name(name): name for name in CATEGORY_OF_CLASS.values()} == CATEGORY_OF_CLASS
    assert tuple(CATEGORY_OF_CLASS) == DETECTION_CLASSES

"""Machine-made annotations of a dataset: as the devkit reads them, and as their figures describe them."""

import json
import shutil

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.autolabel.autolabel import autolabel, plan
from vexkd_model.autolabel.report import quality_table
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.machine_made import MACHINE_MADE, machine_made_scenes
from vexkd_model.data.prepare import prepare
from vexkd_model.data.requirements import check_evaluable
from vexkd_model.errors import UserError
from vexkd_model.training.run import describe_data
from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction

VERSION, OUT = "v1.0-mini", "auto"
TEACHER = {"name": "seer", "from": "nowhere", "fingerprint": "f" * 64}


class Seer:
    """Detector that knows the truth up to noise, and sees a false car in every frame at a place of its own."""

    runtime = "PyTorch, float32"

    def __init__(self, config, indices):
        self.config, self.calls, self.rng = config, 0, np.random.default_rng(0)
        self.records = {index[k].token: index[k] for index in indices for k in range(len(index))}

    def predict(self, frame):
        self.calls += 1
        truth = self.records[frame.token].seen_boxes
        false = [-20.0 + 6 * self.calls, 30, 0.8, 4, 2, 1.5, 0, 0, 0]
        values = np.concatenate([truth.values, np.float32([false])])
        values[:-1, :2] += self.rng.normal(0, 0.1, (len(truth), 2))
        labels = np.concatenate([truth.labels, [DETECTION_CLASSES.index("car")]])
        scores = np.append(np.full(len(truth), 0.8), 0.2).astype(np.float32)
        return Prediction(Boxes(values, labels), scores, None, None, frame.stamp_ns, frame.token)


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    root = write_tiny_nuscenes(tmp_path_factory.mktemp("own") / "data", {"scene-0061": 4, "scene-0103": 3})
    prepare(root, VERSION, root / "vexkd" / VERSION)
    return root


@pytest.fixture(scope="module")
def indices(dataroot):
    return [FrameIndex.open(dataroot / "vexkd" / VERSION, split) for split in ("mini_train", "mini_val")]


@pytest.fixture(scope="module")
def labelled(dataroot, indices, tiny_config):
    seer = Seer(tiny_config, indices)
    result = autolabel(seer, TEACHER, plan(indices, "mini_train", None), OUT, "vexkd autolabel …")
    return result, seer


@pytest.fixture(scope="module")
def both(dataroot, labelled):
    return [NuScenes(version, str(dataroot), verbose=False) for version in (VERSION, OUT)]


def boxes_of_scene(nusc, name):
    """Rows of a scene's annotations of the ten classes that hold points, with their keyframe."""
    (scene,) = (scene for scene in nusc.scene if scene["name"] == name)
    token, rows = scene["first_sample_token"], []
    while token:
        sample = nusc.get("sample", token)
        annotations = [nusc.get("sample_annotation", one) for one in sample["anns"]]
        rows += [row for row in annotations if row["num_lidar_pts"] and row["category_name"] != "animal"]
        token = sample["next"]
    return rows


def test_the_devkit_reads_a_box_for_every_true_one_and_no_other(both):
    true, made = (boxes_of_scene(nusc, "scene-0061") for nusc in both)
    assert len(made) == len(true) > 20
    for row in true:
        (nearest,) = (
            one
            for one in made
            if one["sample_token"] == row["sample_token"]
            and one["category_name"] == row["category_name"]
            and np.linalg.norm(np.subtract(one["translation"], row["translation"])) < 0.5
        )
        np.testing.assert_allclose(nearest["size"], row["size"], rtol=0.01)
        assert 0.5 < nearest["score"] <= 0.8


def test_instances_are_whole_and_their_velocity_is_the_true_one(both):
    made = both[1]
    for row in boxes_of_scene(made, "scene-0061"):
        token = row["instance_token"]
        boxes = made.field2token("sample_annotation", "instance_token", token)
        assert made.get("instance", token)["nbr_annotations"] == len(boxes)
        if row["category_name"] == "vehicle.motorcycle":
            assert np.linalg.norm(made.box_velocity(row["token"])[:2]) == pytest.approx(7.0, abs=0.7)


def test_attributes_follow_from_the_motion(both):
    made = both[1]
    names = {
        (row["category_name"], made.get("attribute", row["attribute_tokens"][0])["name"])
        for row in boxes_of_scene(made, "scene-0061")
        if row["attribute_tokens"]
    }
    assert {("vehicle.truck", "vehicle.parked"), ("vehicle.motorcycle", "cycle.with_rider")} <= names
    assert ("vehicle.car", "vehicle.moving") in names and ("vehicle.car", "vehicle.parked") in names


def test_other_scenes_keep_the_annotations_that_people_made(both, dataroot):
    assert boxes_of_scene(both[0], "scene-0103") == boxes_of_scene(both[1], "scene-0103")
    assert machine_made_scenes(dataroot, OUT) == {"scene-0061"}
    assert machine_made_scenes(dataroot, VERSION) == set()


def test_figures_against_the_truth_are_those_of_the_noise(labelled):
    result, _ = labelled
    car = result.after["car"]
    assert (car.precision, car.recall) == (1.0, 1.0)
    assert car.errors["position"] < result.before["car"].errors["position"] < 0.25
    assert result.judged == ["scene-0061"]
    text = quality_table(result)
    assert "1.00 → 1.00" in text and "mean of classes" in text


def test_the_new_version_is_prepared_like_any_other_and_says_who_made_its_boxes(
    dataroot, labelled, tiny_config, tmp_path
):
    prepare(dataroot, OUT, tmp_path)
    made = FrameIndex.open(tmp_path, "mini_train")
    assert sum(made.inventory.seen_boxes.values()) > 20
    assert describe_data(made)["boxes_made_by"] == "seer"
    (remark,) = check_evaluable(tiny_config, made)
    assert "a model made the boxes of 1 scenes" in remark


def test_detections_of_an_earlier_run_are_not_computed_again(dataroot, indices, tiny_config, labelled):
    seer = Seer(tiny_config, indices)
    result = autolabel(seer, TEACHER, plan(indices, "mini_train", None), "again", "vexkd autolabel …")
    assert (seer.calls, labelled[1].calls) == (0, 7)
    assert result == labelled[0]
    shutil.rmtree(dataroot / "again")


def test_a_version_that_is_there_is_not_overwritten(indices, tiny_config, labelled):
    with pytest.raises(UserError, match="auto: is there already"):
        autolabel(Seer(tiny_config, indices), TEACHER, plan(indices, "mini_train", None), OUT, "")


def test_by_default_scenes_without_annotations_are_labelled(dataroot, indices, tmp_path):
    with pytest.raises(UserError, match="every scene has annotations; choose"):
        plan(indices, None, None)
    with pytest.raises(UserError, match="--scenes scene-9: in no prepared split"):
        plan(indices, None, ["scene-9"])
    root = write_tiny_nuscenes(tmp_path / "bare", version="v1.0-test", scenes={"scene-0077": 2})
    prepare(root, "v1.0-test", tmp_path / "index")
    bare = plan([FrameIndex.open(tmp_path / "index", "test")], None, None)
    assert (list(bare.wanted), bare.annotated, bare.judged) == (["scene-0077"], {}, ())


def test_what_a_machine_made_is_no_truth(dataroot, labelled, tmp_path):
    prepare(dataroot, OUT, tmp_path)
    job = plan([FrameIndex.open(tmp_path, split) for split in ("mini_train", "mini_val")], None, None)
    assert list(job.wanted) == ["scene-0061"]
    assert list(job.annotated) == ["scene-0103"] == list(job.judged)


def test_a_damaged_mark_is_named(dataroot, labelled, tmp_path):
    (tmp_path / OUT).mkdir()
    (tmp_path / OUT / MACHINE_MADE).write_text(json.dumps({"teacher": {}}))
    with pytest.raises(UserError, match=r"machine_made.json: not a mark"):
        machine_made_scenes(tmp_path, OUT)

"""Students on the inputs that bags hold, in this process, against the same students on the dataset's own files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_ros.bags.evaluator import KeyframesMissing, evaluate_student, main
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.bags.student_replay import SETTINGS, ReplayRecord, TopicNames, predict_bag

REPOSITORY = Path(__file__).parents[3]
SCENES = {"mini_train": "scene-0061", "mini_val": "scene-0103"}


def replay(
    bags: Sequence[Path], student: Predictor, index: FrameIndex, record: ReplayRecord | None = None
) -> dict[int, object]:
    stamps, record = index.column("stamp_ns"), record or ReplayRecord()
    return {
        prediction.stamp_ns: prediction
        for bag in bags
        for prediction in predict_bag(bag, student, stamps, TopicNames(), record)
    }


@pytest.mark.parametrize("split", SCENES)
@pytest.mark.parametrize("sensor", ["lidar", "camera"])
def test_predictions_from_a_bag_are_those_from_the_files(
    students: dict[str, Path], full_bags: dict[str, Path], index_dir: Path, sensor: str, split: str
) -> None:
    index, student = FrameIndex.open(index_dir, split), Predictor.load(students[sensor])
    record = ReplayRecord()
    found = replay([full_bags[SCENES[split]]], student, index, record)
    offline = list(predict_split(student, index))
    assert sum(len(prediction.boxes) for prediction in offline) > 10
    assert not record.drops and not record.degraded
    for expected in offline:
        prediction = found.pop(expected.stamp_ns)
        np.testing.assert_array_equal(prediction.boxes.labels, expected.boxes.labels)
        np.testing.assert_allclose(prediction.boxes.values, expected.boxes.values, atol=1e-3)
        np.testing.assert_allclose(prediction.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(prediction.map_probabilities, expected.map_probabilities, atol=1e-4)
    assert not found


def test_the_score_of_a_bag_is_that_of_the_files(
    students: dict[str, Path], full_bags: dict[str, Path], index_dir: Path
) -> None:
    index, student = FrameIndex.open(index_dir, "mini_train"), Predictor.load(students["lidar"])
    evaluation = evaluate_student([full_bags["scene-0061"]], index, student)
    offline = score_split(predict_split(student, index), index)
    assert evaluation.result.detection == offline.detection
    assert evaluation.result.maps == offline.maps
    assert (evaluation.keyframes, len(evaluation.latency["infer"])) == (3, 3)
    assert evaluation.notes[-1].endswith(" times real time")


def test_a_keyframe_that_no_bag_holds_is_no_score(
    students: dict[str, Path], full_dataset: Path, index_dir: Path, tmp_path: Path
) -> None:
    (bag,) = convert(full_dataset, "v1.0-mini", tmp_path, ["scene-0061"], selection=Selection(start_s=0.3))
    index, student = FrameIndex.open(index_dir, "mini_train"), Predictor.load(students["lidar"])
    with pytest.raises(KeyframesMissing) as error:
        evaluate_student([bag], index, student)
    assert "scene-0061: hold the input of 2 of 3 keyframes of mini_train (the first that is missing: scene-0061-0)" in (
        str(error.value)
    )
    assert str(error.value).endswith("; give all bags of the split, or --scenes")


def test_missing_transforms_are_said_and_missing_sweeps_counted(
    students: dict[str, Path], full_dataset: Path, index_dir: Path, tmp_path: Path
) -> None:
    index, student = FrameIndex.open(index_dir, "mini_train"), Predictor.load(students["lidar"])
    (nowhere,) = convert(
        full_dataset, "v1.0-mini", tmp_path / "nowhere", ["scene-0061"], selection=Selection(topics=("/lidar/points",))
    )
    with pytest.raises(KeyframesMissing, match=r"hold the input of 0 of 3 .*; no transform base_link → lidar_top: "):
        evaluate_student([nowhere], index, student)
    (standing,) = convert(
        full_dataset,
        "v1.0-mini",
        tmp_path / "standing",
        ["scene-0061"],
        selection=Selection(topics=("/lidar/points", "/tf_static")),
    )
    notes = evaluate_student([standing], index, student).notes
    assert any(note.startswith("3 times: only the newest sweep used: ") for note in notes)


def test_a_bag_without_the_students_topics_is_one_line(
    students: dict[str, Path], full_bags: dict[str, Path], index_dir: Path
) -> None:
    index, student = FrameIndex.open(index_dir, "mini_train"), Predictor.load(students["lidar"])
    with pytest.raises(UserError, match="scene-0061: holds no /velodyne; name the topics of this bag"):
        evaluate_student([full_bags["scene-0061"]], index, student, TopicNames(points="/velodyne"))


def test_the_replays_settings_are_the_nodes_defaults() -> None:
    (section,) = yaml.safe_load((REPOSITORY / "config" / "node" / "student_node.yaml").read_text()).values()
    defaults = section["ros__parameters"]
    assert {name: defaults[name] for name in asdict(SETTINGS)} == asdict(SETTINGS)


@pytest.fixture(scope="module")
def two_scenes(full_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of both scenes as one split, as if both were of mini_val."""
    root = tmp_path_factory.mktemp("two")
    (root / "data").mkdir()
    for entry in full_dataset.iterdir():
        (root / "data" / entry.name).symlink_to(entry)
    (root / "data" / "v1.0-mini").unlink()
    (root / "data" / "v1.0-mini").mkdir()
    for table in (full_dataset / "v1.0-mini").iterdir():
        text = table.read_text()
        if table.name == "scene.json":
            text = text.replace('"name": "scene-0061"', '"name": "scene-0916"')
        (root / "data" / "v1.0-mini" / table.name).write_text(text)
    prepare(root / "data", "v1.0-mini", root / "index", ["mini_val"])
    return root


def test_some_scenes_of_a_split_are_scored_alone_and_said_to_be_a_part(
    two_scenes: Path,
    students: dict[str, Path],
    full_bags: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scene-0061's bag holds the very keyframes of what is called scene-0916 here."""
    options = [
        "--student",
        str(students["lidar"]),
        "--dataroot",
        str(two_scenes / "data"),
        "--version",
        "v1.0-mini",
        "--index",
        str(two_scenes / "index"),
        "--json",
        str(tmp_path / "figures.json"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", lambda *_: pytest.fail("predicted before the missing scene was told"))
        with pytest.raises(SystemExit, match=r"hold the input of 3 of 5 keyframes .* whole are --scenes scene-0916$"):
            main([str(full_bags["scene-0061"]), *options])
    assert not (tmp_path / "figures.json").exists()

    assert main([str(full_bags["scene-0061"]), *options, "--scenes", "scene-0916"]) == 0
    assert "note: only scene-0916 of mini_val: no figure of the split" in capsys.readouterr().out
    part = json.loads((tmp_path / "figures.json").read_text())
    assert (part["keyframes"], part["detection"]["samples"], part["subset_of_scenes"]) == (3, 3, ["scene-0916"])

    everything = sorted(full_bags["scene-0061"].parent.glob("*"))  # the manifest, too, as a shell's bags/* names it
    assert len(everything) == 1 + len(full_bags) + 1, "and the lock, which a shell leaves out"
    assert main([*(str(path) for path in everything if not path.name.startswith(".")), *options]) == 0
    whole = json.loads((tmp_path / "figures.json").read_text())
    assert (whole["keyframes"], whole["detection"]["samples"]) == (5, 5)
    assert "subset_of_scenes" not in whole
    assert sum(part["detection"]["ground_truth"].values()) < sum(whole["detection"]["ground_truth"].values())


def test_a_part_of_an_index_holds_the_frames_and_maps_of_its_scenes(two_scenes: Path) -> None:
    index = FrameIndex.open(two_scenes / "index", "mini_val")
    for scene in ("scene-0103", "scene-0916"):
        part, rows = index.of_scenes([scene]), [i for i, name in enumerate(index.column("scene")) if name == scene]
        assert part.scenes == (scene,) and len(part) == len(rows)
        assert part.column("token") == [index[i].token for i in rows]
        for j, i in enumerate(rows):
            assert part[j].token == index[i].token
            np.testing.assert_array_equal(part[j].boxes.values, index[i].boxes.values)
            np.testing.assert_array_equal(part.map_mask(j), index.map_mask(i))
            assert [before.token for before in part.before(j, 2)] == [before.token for before in index.before(i, 2)]
    with pytest.raises(UserError, match="scene scene-0001: not in the index"):
        index.of_scenes(["scene-0001"])


@pytest.mark.parametrize("sensor", ["lidar", "camera"])
def test_predictions_on_the_real_keyframes_bag_are_those_from_its_files(
    students: dict[str, Path], keyframe_dataroot: Path, tmp_path: Path, sensor: str
) -> None:
    (bag,) = convert(keyframe_dataroot, "v1.0-mini", tmp_path / "bags")
    prepare(keyframe_dataroot, "v1.0-mini", tmp_path / "index")
    index, student = FrameIndex.open(tmp_path / "index", "mini_train"), Predictor.load(students[sensor])
    (expected,) = predict_split(student, index)
    found = replay([bag], student, index)[expected.stamp_ns]
    assert len(expected.boxes) > 10
    np.testing.assert_allclose(found.boxes.values, expected.boxes.values, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(found.map_probabilities, expected.map_probabilities, atol=1e-3)

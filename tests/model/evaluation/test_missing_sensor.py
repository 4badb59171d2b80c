"""A model of two sensors is evaluated while one of them is silent, and what its card states stays as it is."""

import json
from dataclasses import replace

import numpy as np
import pytest

from vexkd_model.cli import main
from vexkd_model.config import load_config
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.dummy_frame import dummy_frame
from vexkd_model.data.missing_sensor import check_droppable, without_sensor
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.training.run import EVALUATION, load_run
from vexkd_model.training.train import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher_run(config_path, tiny_teacher, tiny_index, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "teacher"
    config = load_config(config_path.with_name("bevfusion_teacher_small.yaml"), (*tiny_teacher, "training.epochs=1"))
    train(config, tiny_index, run, workers=0, resume=False, interactive=False)
    return run


@pytest.fixture
def teacher(teacher_run):
    return Predictor(*load_run(teacher_run)[:2], card=None, device="cpu")


def silent(frame, sensor):
    if sensor == "lidar":
        return replace(frame, points=np.empty((0, 5), np.float32))
    return replace(frame, cameras=())


@pytest.mark.parametrize("sensor", ["lidar", "camera"])
def test_dropping_a_sensor_gives_what_frames_without_it_give(teacher, tiny_index, sensor):
    found = list(predict_split(teacher, tiny_index, sensor))
    assert len(found) == len(tiny_index) > 1
    whole = list(predict_split(teacher, tiny_index))
    for i, prediction in enumerate(found):
        expected = teacher.predict(silent(load_frame(tiny_index, i, teacher.config), sensor))
        np.testing.assert_array_equal(prediction.map_probabilities, expected.map_probabilities)
        np.testing.assert_array_equal(prediction.boxes.values, expected.boxes.values)
        assert prediction.token == expected.token != ""
        assert not np.array_equal(prediction.map_probabilities, whole[i].map_probabilities)


def test_images_of_the_past_are_silent_too(config_path):
    """Those of a model with history: what is left is as if the cameras had never been there."""
    frame = dummy_frame(load_config(config_path.with_name("bevdet4d_depth_small.yaml")))
    assert frame.cameras and frame.past
    blind = without_sensor(frame, "camera")
    assert not blind.cameras and not blind.past


def test_the_command_writes_figures_beside_those_that_a_card_states(
    teacher_run, teacher, tiny_dataroot, tiny_index, tmp_path, capsys
):
    dataset = [
        "--dataroot",
        str(tiny_dataroot),
        "--version",
        "v1.0-mini",
        "--split",
        "mini_train",
        "--index",
        str(tiny_index.folder.parent),
    ]
    main(["evaluate", str(teacher_run), *dataset, "--submission", str(tmp_path / "whole.json")])
    stated = (teacher_run / EVALUATION).read_text()
    assert "dropped" not in json.loads(stated)
    capsys.readouterr()
    main(
        [
            "evaluate",
            str(teacher_run),
            *dataset,
            "--drop",
            "lidar",
            "--json",
            str(tmp_path / "figures.json"),
            "--submission",
            str(tmp_path / "found.json"),
        ]
    )
    assert "without lidar" in capsys.readouterr().out
    assert (teacher_run / EVALUATION).read_text() == stated
    written = json.loads((teacher_run / "evaluation_without_lidar.json").read_text())
    assert written == json.loads((tmp_path / "figures.json").read_text()) and written["dropped"] == "lidar"
    frames = [silent(load_frame(tiny_index, i, teacher.config), "lidar") for i in range(len(tiny_index))]
    expected = score_split(
        map(teacher.predict, frames), tiny_index, tmp_path / "expected.json", sensors=["camera"]
    ).to_dict()
    assert {name: written[name] for name in expected} == json.loads(json.dumps(expected))
    whole, found, expected = ((tmp_path / f"{name}.json").read_text() for name in ("whole", "found", "expected"))
    assert found == expected != whole
    used = ("use_lidar", "use_camera")
    assert [json.loads(text)["meta"][sensor] for text in (whole, found) for sensor in used] == [True, True, False, True]


@pytest.mark.parametrize(
    ("sensor", "reason"), [("camera", "does not read it, only lidar"), ("lidar", "reads nothing else")]
)
def test_a_model_of_one_sensor_is_refused_in_one_line(tiny_config, sensor, reason):
    with pytest.raises(UserError, match=f"--drop {sensor}: lidar_pillar_small {reason}") as error:
        check_droppable(tiny_config, sensor)
    assert "\n" not in str(error.value)


def test_the_command_refuses_before_the_first_frame(tiny_dataroot, tiny_index_dir):
    with pytest.raises(SystemExit) as error:
        main(
            [
                "evaluate",
                "models/lidar_distilled",
                "--dataroot",
                str(tiny_dataroot),
                "--version",
                "v1.0-mini",
                "--index",
                str(tiny_index_dir),
                "--drop",
                "lidar",
            ]
        )
    assert error.value.code.startswith("vexkd: --drop lidar: lidar_pillar_small reads nothing else")

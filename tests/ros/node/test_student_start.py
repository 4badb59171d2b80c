"""How the process starts and ends: exit codes, and one line where it cannot start."""

import shutil
import signal
import time
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from support.clock import wait_for

from vexkd_model.config import load_config
from vexkd_model.errors import UserError
from vexkd_ros.student_parameters import StudentParameters, check_student

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def processes(start_node, package, tmp_path_factory):
    """All at once: each spends its time on imports."""
    tampered = tmp_path_factory.mktemp("tampered") / "student"
    shutil.copytree(package, tampered)
    (tampered / "model.yaml").write_text((tampered / "model.yaml").read_text().replace("sweeps: 5", "sweeps: 1"))
    return {
        "transport": start_node(model=package, image_transport="pigeon"),
        "tampered": start_node(model=tampered),
        "out of range": start_node(model=package, score_threshold=1.5),
        "wrong type": start_node(model=package, threads="many"),
        "no file": start_node("--params-file", "/no/such.yaml"),
        "interrupted": start_node(model=package),
    }


@pytest.mark.parametrize(("case", "named"), [
    ("transport", ("parameter image_transport: 'pigeon' is neither raw nor compressed",)),
    ("tampered", ("student/model.yaml", "config_sha256")),
    ("out of range", ("score_threshold", "1.5")),
    ("wrong type", ("threads", "INTEGER")),
    ("no file", ("/no/such.yaml",)),
])  # fmt: skip
def test_what_keeps_it_from_starting_is_one_line(processes, case, named):
    node = processes[case]
    assert node.ended() == 1
    assert len(node.log.splitlines()) == 1, node.log
    assert all(word in node.log for word in named), node.log


def parameters(**changed: object) -> StudentParameters:
    """Those of the parameter file."""
    values = yaml.safe_load((REPOSITORY / "config" / "node" / "student_node.yaml").read_text())
    values = values["/**"]["ros__parameters"] | {"model": "students/mine"} | changed
    return StudentParameters(**{field.name: values[field.name] for field in fields(StudentParameters)})


@pytest.mark.parametrize(("model", "cameras", "named"), [
    ("bevfusion_teacher_small", [""], "students/mine: fuses LiDAR and cameras; this node takes students of one of"),
    ("bevdet_small", ["front", "back"], "parameter cameras: names 2 cameras, students/mine reads 6: CAM_FRONT_LEFT"),
])  # fmt: skip
def test_a_student_that_does_not_fit_the_node_or_its_parameters_is_refused(model, cameras, named):
    student = load_config(REPOSITORY / "config" / "model" / f"{model}.yaml")
    with pytest.raises(UserError, match=named):
        check_student(parameters(cameras=cameras), student)


def test_without_names_the_cameras_are_called_as_the_student_calls_them():
    student = load_config(REPOSITORY / "config" / "model" / "bevdet_small.yaml")
    assert check_student(parameters(), student).cameras[1] == "cam_front"


def test_sigint_ends_it_at_once_with_exit_code_zero(processes):
    node = processes["interrupted"]
    wait_for(lambda: "active" in node.log, "an active node")
    begun = time.monotonic()
    assert node.stop(signal.SIGINT) == 0
    assert time.monotonic() - begun < 5
    assert "Traceback" not in node.log

"""How the process starts and ends: exit codes, and one line where it cannot start."""

import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.clock import wait_for

from vexkd_model.config import load_config
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_ros.start_summary import start_summary
from vexkd_ros.student_parameters import StudentParameters, check_student

REPOSITORY = Path(__file__).parents[3]


END = "-- exit code"
REFUSE = f"""
import sys
import rclpy
from vexkd_ros.student_node import main

for arguments in {{cases}}:
    try:
        code = main(["student_node", "--ros-args", *arguments])
    except SystemExit as error:  # with the line that Python prints as it ends with 1
        print(error.code, file=sys.stderr)
        code = 1
    print("{END}", code, file=sys.stderr, flush=True)
    rclpy.try_shutdown()
"""
REFUSED = {
    "transport": (
        ["-p", "image_transport:=pigeon"],
        ("parameter image_transport: 'pigeon' is neither raw nor compressed",),
    ),
    "out of range": (["-p", "score_threshold:=1.5"], ("score_threshold", "1.5")),
    "wrong type": (["-p", "threads:=many"], ("threads", "INTEGER")),
    "no file": (["--params-file", "/no/such.yaml"], ("/no/such.yaml",)),
}


@pytest.fixture(scope="module")
def refusals(package):
    """(exit code, what is said) of each case: one process for all, which spends its time on imports."""
    cases = [[*arguments, "-p", f"model:={package}"] for arguments, _ in REFUSED.values()]
    done = subprocess.run([sys.executable, "-c", REFUSE.format(cases=cases)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = re.findall(rf"(.*?){END} (\d+)\n", done.stderr, re.DOTALL)
    return {case: (int(code), text) for case, (text, code) in zip(REFUSED, said, strict=True)}


@pytest.mark.parametrize("case", REFUSED)
def test_what_keeps_it_from_starting_is_one_line(refusals, case):
    code, said = refusals[case]
    assert code == 1 and len(said.splitlines()) == 1, said
    assert all(word in said for word in REFUSED[case][1]), said


def test_a_package_that_was_tampered_with_ends_the_process_in_one_line(start_node, package, tmp_path):
    tampered = tmp_path / "student"
    shutil.copytree(package, tampered)
    (tampered / "model.yaml").write_text((tampered / "model.yaml").read_text().replace("sweeps: 5", "sweeps: 1"))
    node = start_node(model=tampered)
    assert node.ended() == 1
    assert len(node.log.splitlines()) == 1, node.log
    assert all(word in node.log for word in ("student/model.yaml", "config_sha256")), node.log


def parameters(**changed: object) -> StudentParameters:
    """Those of the parameter file."""
    values = yaml.safe_load((REPOSITORY / "config" / "node" / "student_node.yaml").read_text())
    values = values["/**"]["ros__parameters"] | {"model": "students/mine"} | changed
    return StudentParameters(**{field.name: values[field.name] for field in fields(StudentParameters)})


@pytest.mark.parametrize(
    ("model", "cameras", "named"),
    [
        ("bevfusion_teacher_small", [""], "students/mine: fuses LiDAR and cameras; this node takes students of one of"),
        (
            "bevdet_small",
            ["front", "back"],
            "parameter cameras: names 2 cameras, students/mine reads 6: CAM_FRONT_LEFT",
        ),
    ],
)
def test_a_student_that_does_not_fit_the_node_or_its_parameters_is_refused(model, cameras, named):
    student = load_config(REPOSITORY / "config" / "model" / f"{model}.yaml")
    with pytest.raises(UserError, match=named):
        check_student(parameters(cameras=cameras), student)


def test_without_names_the_cameras_are_called_as_the_student_calls_them():
    student = load_config(REPOSITORY / "config" / "model" / "bevdet_small.yaml")
    assert check_student(parameters(), student).cameras[1] == "cam_front"


def test_the_summary_at_start_names_all_that_a_newcomer_looks_for(package):
    predictor = Predictor.load(package)
    topics = ["/lidar/points"], ["/student_node/detections", "/student_node/markers"]
    plain = start_summary("students/mine", predictor, *topics, 0.0)
    by_class = start_summary("students/mine", predictor, *topics, np.linspace(0.1, 1.0, 10))
    for text in (plain, by_class):
        assert "\n" not in text
        for named in ("students/mine", "lidar_pillar_small", "PyTorch", "5 sweeps 0.1 s apart", *topics[0], *topics[1]):
            assert named in text
        assert Path(text.split("rviz2 -d ")[1]).is_file()
    assert "from score 0 on; `vexkd calibrate`" in plain and "car 0.10, truck 0.20" in by_class


def test_sigint_ends_it_at_once_with_exit_code_zero(start_node, package):
    node = start_node(model=package)
    wait_for(lambda: "active" in node.log, "an active node")
    begun = time.monotonic()
    assert node.stop(signal.SIGINT) == 0
    assert time.monotonic() - begun < 15  # loaded machines are slow, a hang would be longer
    assert "Traceback" not in node.log

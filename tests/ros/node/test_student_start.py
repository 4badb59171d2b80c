"""How the process starts and ends: exit codes, and one line where it cannot start."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from vexkd_model.config import load_config
from vexkd_model.deploy.package import save_package
from vexkd_model.model import build_model

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def processes(start_node, package, tmp_path_factory):
    """All at once: each spends its time on imports."""
    tampered = tmp_path_factory.mktemp("tampered") / "student"
    shutil.copytree(package, tampered)
    (tampered / "model.yaml").write_text((tampered / "model.yaml").read_text().replace("sweeps: 5", "sweeps: 1"))
    config = load_config(REPOSITORY / "config" / "model" / "bevfusion_teacher_small.yaml")
    teacher = tmp_path_factory.mktemp("teacher") / "student"
    save_package(teacher, build_model(config), config, trained_on={}, metrics={}, source_revision="test")
    return {
        "teacher": start_node(model=teacher),
        "transport": start_node(model=package, image_transport="pigeon"),
        "tampered": start_node(model=tampered),
        "out of range": start_node(model=package, score_threshold=1.5),
        "wrong type": start_node(model=package, threads="many"),
        "no file": start_node("--params-file", "/no/such.yaml"),
        "interrupted": start_node(model=package),
    }


@pytest.mark.parametrize(("case", "named"), [
    ("teacher", ("fuses LiDAR and cameras", "students of one of them")),
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


def test_sigint_ends_it_at_once_with_exit_code_zero(processes):
    node = processes["interrupted"]
    deadline = time.monotonic() + 60
    while "active" not in node.log and time.monotonic() < deadline:
        time.sleep(0.1)
    begun = time.monotonic()
    assert node.stop(signal.SIGINT) == 0
    assert time.monotonic() - begun < 5
    assert "Traceback" not in node.log

"""The demo end to end on a few frames: real processes over real DDS, and what happens when one of them fails."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.package import save_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.model import build_model
from vexkd_ros.bags.published import read_published
from vexkd_ros.demo.inputs import Dataset, frame_index
from vexkd_ros.demo.results import compare

REPOSITORY = Path(__file__).parents[3]
Start = Callable[..., subprocess.Popen]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained package whose random weights find a good many boxes."""
    config = load_config(REPOSITORY / "config" / "model" / "lidar_pillar_small.yaml")
    torch.manual_seed(4)
    module = build_model(config)
    with torch.no_grad():
        for name, weights in module.named_parameters():
            if name.startswith("detection") and weights.ndim > 1:
                weights.mul_(3)
    folder = tmp_path_factory.mktemp("models") / "student"
    save_package(folder, module, config, trained_on={}, metrics={}, source_revision="test")
    return folder


@pytest.fixture
def start_demo(tiny_dataset: Path, student: Path) -> Iterator[Start]:
    processes = []

    def start(out: Path, rate: float) -> subprocess.Popen:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "vexkd_ros.demo",
                "--out",
                str(out),
                "--dataroot",
                str(tiny_dataset),
                "--version",
                "v1.0-mini",
                "--student",
                str(student),
                "--rate",
                str(rate),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.terminate()  # the demo then ends its children
        process.communicate()


def processes_of(out: Path) -> dict[int, str]:
    """Living processes that name the folder or write their output into it: pid → command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                written = [os.readlink(entry / "fd" / str(number)) for number in (1, 2)]
            except OSError:
                continue
            if any(str(out) in text for text in (command, *written)):
                found[int(entry.name)] = command
    return found


def wait_until_it_plays(demo: subprocess.Popen) -> None:
    for line in demo.stderr:
        if line.startswith("start of"):
            return
    raise AssertionError(f"the demo ended with {demo.wait()} before it played")


def test_lost_keyframes_fail_and_the_next_run_goes_on_to_figures_that_equal_the_offline_ones(
    start_demo: Start, tmp_path: Path, student: Path
) -> None:
    out = tmp_path / "out"
    too_fast = start_demo(out, rate=100)
    _, said = too_fast.communicate(timeout=140)
    assert too_fast.returncode == 1
    assert " of 3 keyframes of mini_val" in said.splitlines()[-1]
    assert not (out / "metrics.json").exists()

    demo = start_demo(out, rate=0.05)  # a sweep a second
    tables, said = demo.communicate(timeout=140)
    assert demo.returncode == 0, said
    assert "scene-0103 is complete, kept" in said
    assert "mean (mAP)" in tables
    assert "latency [ms]" in tables
    assert "vexkd evaluate" in tables
    page = out / "page.html"
    assert tables.splitlines()[-1].endswith(page.resolve().as_uri())
    shown = json.loads(re.search(r'type="application/json">(.*?)</script>', page.read_text(), re.DOTALL).group(1))
    assert shown["students"] == ["student_node"] and len(shown["frames"]) == 3
    assert all(frame["cameras"] and frame["answers"][0]["found"] for frame in shown["frames"])
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["keyframes"] == 3
    assert figures["latency_ms"]["total"]["frames"] >= 3
    assert cv2.imread(str(out / "picture.png")).shape[1] > 1000
    assert processes_of(out) == {}

    again = start_demo(out, rate=0.05)
    repeated, said = again.communicate(timeout=60)
    assert again.returncode == 0 and "kept from an earlier run" in said and "play to the student node" not in said
    assert repeated == tables

    index = FrameIndex.open(out / "index", "mini_val")
    offline = list(predict_split(Predictor.load(student, precision="auto"), index))
    online = read_published(out / "published", "/student_node", {record.stamp_ns for record in offline}).predictions
    assert sum(len(prediction.boxes) for prediction in offline) > 10
    for expected in offline:
        found = online[expected.stamp_ns]
        assert len(found.boxes) == len(expected.boxes)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        np.testing.assert_allclose(found.map_probabilities, expected.map_probabilities, atol=0.006)


def test_students_are_compared_on_the_keyframes_and_one_whose_images_are_missing_is_left_out(
    tiny_dataset: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = load_config(REPOSITORY / "config" / "model" / "bevdet_small.yaml")
    save_package(tmp_path / "camera", build_model(config), config, trained_on={}, metrics={}, source_revision="test")
    shutil.copytree(tiny_dataset, tmp_path / "data")
    index = frame_index(Dataset(tmp_path / "data", "v1.0-mini"), "mini_val", tmp_path / "index")
    out, students = compare([student, tmp_path / "camera"], index, tmp_path)
    offline = score_split(predict_split(Predictor.load(student, precision="auto"), index), index)
    figures = json.loads((tmp_path / "comparison.json").read_text())
    assert list(figures) == ["student", "camera"]
    assert figures["student"] == json.loads(json.dumps(offline.to_dict()))
    assert f"{offline.detection.nd_score:.3f}" in out
    assert [(student.name, len(student.predictions)) for student in students] == [("student", 3), ("camera", 3)]
    assert cv2.imread(str(tmp_path / "comparison.png")).shape[1] > 1000

    shutil.rmtree(tmp_path / "data" / "samples" / "CAM_FRONT")
    compare([student, tmp_path / "camera"], index, tmp_path)
    assert "camera is left out: " in capsys.readouterr().err
    assert list(json.loads((tmp_path / "comparison.json").read_text())) == ["student"]


def test_ctrl_c_ends_all_processes(start_demo: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    demo = start_demo(out, rate=0.01)
    wait_until_it_plays(demo)
    assert len(processes_of(out)) == 4
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert processes_of(out) == {}


def test_a_node_that_dies_ends_the_demo_in_one_line(start_demo: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    demo = start_demo(out, rate=0.01)
    wait_until_it_plays(demo)
    (node,) = (pid for pid, command in processes_of(out).items() if "student_node --ros-args" in command)
    os.kill(node, signal.SIGKILL)
    died = time.monotonic()
    _, said = demo.communicate(timeout=60)
    assert time.monotonic() - died < 15
    assert demo.returncode == 1
    last = said.splitlines()[-1]
    assert last.startswith("python -m vexkd_ros.demo: student_node ended, killed by SIGKILL: ")
    assert str(out / "log" / "student_node.log") in last
    assert processes_of(out) == {}

"""Bags through a student node over DDS, with player and recorder: it publishes what offline evaluation finds."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.evaluation.split import predict_split
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.published import Published, read_published

NODE = "/student_node"
OUTPUTS = [f"{NODE}/{name}" for name in ("detections", "markers", "map/divider", "debug/latency")]
INPUTS = {
    "lidar": ["-r", "points:=/lidar/points"],
    "camera": [
        "-p",
        "image_transport:=compressed",
        "-p",
        "use_reference:=true",
        "-p",
        "camera_deadline:=0.5",
        "-r",
        "reference:=/keyframe",
    ],
}
FIRST = {"lidar": "/lidar/points", "camera": "/keyframe"}


@pytest.fixture(scope="module")
def indices(
    index_dir: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, FrameIndex]]:
    """Bags, synthetic and real, and the frames that are in them."""
    bags = request.getfixturevalue("full_bags")
    found = {bags["scene-0061"]: FrameIndex.open(index_dir, "mini_train")}
    real = Path(__file__).parents[4] / "shared" / "nuscenes_keyframe"
    if real.is_dir():
        folder = tmp_path_factory.mktemp("real")
        (bag,) = convert(real, "v1.0-mini", folder)
        prepare(real, "v1.0-mini", folder / "index", ["mini_train"])
        found[bag] = FrameIndex.open(folder / "index", "mini_train")
    return found


def published(
    start: Callable[..., subprocess.Popen], student: Path, sensor: str, bags: list[Path], stamps: list[int], out: Path
) -> Published:
    """What a node publishes when the bags are played to it."""
    node = start(
        "student_node",
        "--ros-args",
        "-p",
        f"model:={student}",
        "-p",
        "precision:=float32",
        "-p",
        "threads:=1",
        "-p",
        "tf_timeout:=1.0",
        "-p",
        "input_reliability:=reliable",
        *INPUTS[sensor],
    )
    recorder = start("bags.recorder", *OUTPUTS, "--namespace", f"{NODE}/map", "--out", out)
    for bag in bags:  # one by one: the last moment of one waits for images that the next must not send
        player = start("bags.player", bag, "--rate", 0.25, "--wait-for-subscribers", FIRST[sensor], *OUTPUTS)
        _, said = player.communicate(timeout=200)
        assert player.returncode == 0, said
    for process in (node, recorder):
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    return read_published(out, NODE, stamps)


@pytest.mark.parametrize("sensor", ["lidar", "camera"])
def test_what_a_node_publishes_about_bags_is_what_offline_evaluation_finds(
    start: Callable[..., subprocess.Popen],
    students: dict[str, Path],
    indices: dict[Path, FrameIndex],
    sensor: str,
    tmp_path: Path,
) -> None:
    predictor = Predictor.load(students[sensor])
    expected = [prediction for index in indices.values() for prediction in predict_split(predictor, index)]
    found = published(
        start, students[sensor], sensor, list(indices), [p.stamp_ns for p in expected], tmp_path / "published"
    )
    assert len(found.predictions) == len(expected)
    for prediction in expected:
        there = found.predictions[prediction.stamp_ns]
        assert len(prediction.boxes) > 5
        np.testing.assert_array_equal(there.boxes.labels, prediction.boxes.labels, str(prediction.stamp_ns))
        np.testing.assert_allclose(there.boxes.values, prediction.boxes.values, atol=0.01)
        np.testing.assert_allclose(there.scores, prediction.scores, atol=1e-3)
        np.testing.assert_allclose(there.map_probabilities, prediction.map_probabilities, atol=0.0051)  # percent

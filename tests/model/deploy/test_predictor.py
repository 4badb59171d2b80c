"""The Predictor: a Frame in, a Prediction out, whatever the cloud holds."""

import numpy as np
import pytest
import torch
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion
from scipy.spatial.transform import Rotation

from vexkd_model.config import load_config
from vexkd_model.config.frame import FrameConfig
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.network_frame import move_frame
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.types import Frame

LIDAR_TOP = FrameConfig(translation=(0.943713, 0.0, 1.84023), rotation=(-1.3884, 0.338027, -89.8835))


def talkative(config):
    """Make an untrained student that says much."""
    torch.manual_seed(2)
    student = build_model(config)
    with torch.no_grad():
        for task in student.detection.tasks:
            task.out.bias[: task.split[0]] = 0.0
    return student


@pytest.fixture(scope="module")
def predictor(tiny_config):
    return Predictor(talkative(tiny_config), tiny_config, None, "cpu")


def cloud(count=2000):
    random = np.random.default_rng(0)
    return random.uniform([-50, -50, -2, 0, 0], [50, 50, 2, 255, 0.1], (count, 5)).astype(np.float32)


def test_detections_come_best_first_above_the_threshold_and_no_more_than_allowed(predictor, tiny_config):
    prediction = predictor.predict(Frame(cloud(), 1))
    scores, limits = prediction.scores, tiny_config.detection
    assert 0 < len(scores) <= limits.max_detections and scores.min() >= limits.score_threshold
    assert (scores[:-1] >= scores[1:]).all()
    assert prediction.boxes.values.shape == (len(scores), 9) and prediction.boxes.values.dtype == np.float32
    assert prediction.boxes.labels.dtype == np.int64 and set(prediction.boxes.labels) <= set(range(10))
    assert (prediction.boxes.values[:, 3:6] > 0).all()


def test_a_prediction_keeps_the_stamp_and_token_of_its_frame(predictor):
    prediction = predictor.predict(Frame(cloud(), 1_234_567_890_123_456_789, "sample"))
    assert (prediction.stamp_ns, prediction.token) == (1_234_567_890_123_456_789, "sample")


def test_the_map_is_a_probability_on_the_configured_grid(predictor, tiny_config):
    prediction = predictor.predict(Frame(cloud(), 1))
    assert prediction.map_grid == tiny_config.segmentation.grid.grid()
    assert prediction.map_probabilities.shape == (6, *prediction.map_grid.shape)
    assert prediction.map_probabilities.min() >= 0 and prediction.map_probabilities.max() <= 1


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 5), np.float32),
        np.full((3, 5), 1e6, np.float32),
        cloud(1),
        np.asfortranarray(cloud(50)),
        cloud(50).astype(np.float64),
    ],
    ids=["empty", "far away", "single", "column-major", "float64"],
)
def test_any_cloud_gives_a_finite_prediction(predictor, points):
    prediction = predictor.predict(Frame(points, 1))
    assert np.isfinite(prediction.boxes.values).all() and np.isfinite(prediction.map_probabilities).all()


def test_predicting_leaves_the_student_as_it_was(predictor):
    before = {name: tensor.clone() for name, tensor in predictor.model.state_dict().items()}
    first = predictor.predict(Frame(cloud(), 1))
    predictor.warm_up()
    second = predictor.predict(Frame(cloud(), 1))
    np.testing.assert_array_equal(first.boxes.values, second.boxes.values)
    assert all(torch.equal(before[name], tensor) for name, tensor in predictor.model.state_dict().items())


def test_bfloat16_rounds_and_no_more(predictor, tiny_config):
    rounded = Predictor(predictor.model, tiny_config, None, "cpu", "bfloat16")
    exact, other = (one.predict(Frame(cloud(), 1)) for one in (predictor, rounded))
    difference = np.abs(exact.map_probabilities - other.map_probabilities)
    assert 0 < difference.max() < 0.05 and difference.mean() < 0.005
    assert other.scores.dtype == other.boxes.values.dtype == other.map_probabilities.dtype == np.float32


@pytest.mark.parametrize(
    ("capabilities", "bfloat16"), [({"avx512_bf16": True}, True), ({"avx512_bf16": False}, False), ({}, False)]
)
def test_auto_takes_bfloat16_where_the_processor_has_it(predictor, tiny_config, monkeypatch, capabilities, bfloat16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert Predictor(predictor.model, tiny_config, None, "cpu", "auto").bfloat16 is bfloat16
    assert not predictor.bfloat16


@pytest.mark.parametrize("device", ["abacus", "cuda:99", ""])
def test_a_device_that_is_not_there_is_one_line(tiny_config, device):
    with pytest.raises(UserError, match="try auto or cpu") as error:
        Predictor(build_model(tiny_config), tiny_config, None, device)
    assert "\n" not in str(error.value)


def in_base_link_by_the_devkit(values, frame):
    """Move boxes (M, 9) of the network's frame to base_link as the devkit moves those of a sensor."""
    pose = Quaternion(matrix=Rotation.from_euler("xyz", frame.rotation, degrees=True).as_matrix())
    rows = []
    for x, y, z, length, width, height, yaw, vx, vy in values.astype(float):
        turn = Quaternion(axis=(0, 0, 1), radians=yaw)
        box = Box([x, y, z], [width, length, height], turn, velocity=(vx, vy, 0))
        box.rotate(pose)
        box.translate(np.array(frame.translation))
        ahead = box.orientation.rotation_matrix[:, 0]
        rows.append([*box.center, length, width, height, np.arctan2(ahead[1], ahead[0]), *box.velocity[:2]])
    return np.array(rows)


def assert_same_boxes(found, expected):
    np.testing.assert_allclose(found[:, :6], expected[:, :6], atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(np.angle(np.exp(1j * (found[:, 6] - expected[:, 6]))), 0, atol=1e-3)
    np.testing.assert_allclose(found[:, 7:], expected[:, 7:], atol=1e-3, rtol=1e-4)


def test_a_lidar_network_with_a_frame_says_of_base_link_what_it_says_of_its_own_frame(tiny_config):
    config, seen = tiny_config.model_copy(update={"segmentation": None}), cloud()
    model = talkative(config)
    there = Predictor(model, config, None, "cpu").predict(Frame(seen, 1))
    pose, in_base = Rotation.from_euler("xyz", LIDAR_TOP.rotation, degrees=True), seen.copy()
    in_base[:, :3] = pose.apply(seen[:, :3].astype(float)) + LIDAR_TOP.translation
    framed = config.model_copy(update={"frame": LIDAR_TOP})
    here = Predictor(model, framed, None, "cpu").predict(Frame(in_base, 1))
    assert len(here.boxes) == len(there.boxes) > 50
    np.testing.assert_array_equal(here.boxes.labels, there.boxes.labels)
    assert_same_boxes(here.boxes.values, in_base_link_by_the_devkit(there.boxes.values, LIDAR_TOP))


def test_a_camera_network_with_a_frame_says_of_base_link_what_it_says_of_its_own_frame(config_path, tiny_index):
    small = ("camera.images.width=64", "camera.images.height=32", "bev.stage_channels=[8, 8, 8]", "segmentation=null")
    config = load_config(config_path.with_name("bevdet_small.yaml"), small)
    model, in_base = talkative(config), load_frame(tiny_index, 0, config)
    seen = move_frame(in_base, LIDAR_TOP.network_from_base())
    there = Predictor(model, config, None, "cpu").predict(seen)
    here = Predictor(model, config.model_copy(update={"frame": LIDAR_TOP}), None, "cpu").predict(in_base)
    assert len(here.boxes) == len(there.boxes) > 10
    assert_same_boxes(here.boxes.values, in_base_link_by_the_devkit(there.boxes.values, LIDAR_TOP))

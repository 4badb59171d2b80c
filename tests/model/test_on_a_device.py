"""Every model on a device that is not the CPU: it says what it says on the CPU, and leaves no tensor behind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.pretend_device import DEVICE, NAME, MixedDevices, synchronisations
from torch import nn

from vexkd_model.config import load_config
from vexkd_model.criterion import build_criterion
from vexkd_model.data.batch import collate_for
from vexkd_model.data.dataset import load_frame, load_sample
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.model import build_model

pytestmark = pytest.mark.usefixtures("one_thread")
NARROW = (
    "grid={extent: 54.0, cell: 1.8}",
    "bev={kind: second, stage_channels: [16, 16], stage_layers: [1, 1], lateral_channels: 16}",
    "detection.shared_channels=16",
    "detection.task_channels=16",
    "segmentation.channels=8",
)
IMAGES = ("camera.images.width=128", "camera.images.height=64")
SMALL = {
    "lidar_pillar_small": (*NARROW, "lidar.encoder.pillar=0.9"),
    "lidar_voxel_small": (*NARROW, "lidar.encoder.voxel=0.45"),
    "bevdet_small": (*NARROW, *IMAGES),
    "bevdet4d_depth_small": (*NARROW, *IMAGES),
    "bevformer_small": (*NARROW, *IMAGES),
    "bevfusion_teacher_small": None,
    "vexkd_teacher_small": None,
}


def built(config):
    """Module without dropout, whose draws would differ from device to device."""
    torch.manual_seed(5)
    module = build_model(config)
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        elif isinstance(layer, nn.MultiheadAttention):
            layer.dropout = 0.0
    return module


def batch_with_missing_sensors(config, index):
    """Two samples: a whole one, and one without points, without some cameras and without a past."""
    whole, other = (load_sample(index, row, config) for row in (2, 1))
    frame = replace(other.frame, points=other.frame.points[:0], cameras=other.frame.cameras[:4], past=())
    return collate_for(config)([whole, replace(other, frame=frame)])


def step(config, module, batch, device):
    """Losses and gradients, on the CPU, of one training step on a device."""
    module = module.to(device).train()
    batch = batch.to(device)
    losses = build_criterion(config)(module(batch.sensors), batch)
    sum(losses.values()).backward()
    gradients = {name: p.grad.cpu() for name, p in module.named_parameters() if p.grad is not None}
    return {name: loss.detach().cpu() for name, loss in losses.items()}, gradients


@pytest.fixture(scope="module")
def configs(config_path, tiny_teacher):
    return {
        name: load_config(config_path.with_name(f"{name}.yaml"), settings or tiny_teacher)
        for name, settings in SMALL.items()
    }


@pytest.fixture(scope="module", params=SMALL)
def config(request, configs):
    return configs[request.param]


def test_a_training_step_is_that_of_the_cpu(config, tiny_index):
    batch = batch_with_missing_sensors(config, tiny_index)
    expected, expected_gradients = step(config, built(config), batch, "cpu")
    losses, gradients = step(config, built(config), batch, DEVICE)
    torch.testing.assert_close(losses, expected, rtol=1e-3, atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, expected_gradient in expected_gradients.items():
        assert (gradients[name] - expected_gradient).norm() <= 0.02 * expected_gradient.norm() + 1e-4, name


def test_a_prediction_is_that_of_the_cpu(config, tiny_index):
    frame, module = load_frame(tiny_index, 2, config), built(config)
    expected, found = (Predictor(module, config, None, device).predict(frame) for device in ("cpu", NAME))
    np.testing.assert_allclose(found.map_probabilities, expected.map_probabilities, atol=1e-4)
    np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-3)


@pytest.mark.parametrize("name", ["lidar_pillar_small", "vexkd_teacher_small"])
def test_a_prediction_in_bfloat16_is_about_the_same(name, configs, tiny_index):
    config = configs[name]
    frame, module = load_frame(tiny_index, 2, config), built(config)
    exact, rounded = (
        Predictor(module, config, None, NAME, precision).predict(frame) for precision in ("float32", "bfloat16")
    )
    assert not np.array_equal(exact.map_probabilities, rounded.map_probabilities)
    np.testing.assert_allclose(rounded.map_probabilities, exact.map_probabilities, atol=0.05)


def test_an_evaluation_gives_the_figures_of_the_cpu(configs, tiny_index):
    config = configs["lidar_pillar_small"]
    module = built(config)
    expected, found = (
        score_split(predict_split(Predictor(module, config, None, device), tiny_index), tiny_index)
        for device in ("cpu", NAME)
    )
    assert found.detection.nd_score == pytest.approx(expected.detection.nd_score, abs=1e-4)
    assert found.maps.mean_iou == pytest.approx(expected.maps.mean_iou, abs=1e-4)


def test_a_tensor_that_is_left_behind_is_found():
    """Else nothing here would mean anything."""
    there = torch.ones(3, device=DEVICE)
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(MixedDevices, match=r"convolution.*on the CPU"):  # which PyTorch leaves to the backend
        nn.functional.conv1d(there[None, None], torch.ones(1, 1, 3))
    with pytest.raises(TypeError, match="cpu"):
        there.numpy()
    assert float((there + torch.tensor(1.0))[torch.arange(2)].sum()) == 4  # as on CUDA: numbers, and indices


def test_a_training_batch_crosses_over_without_waiting(configs, tiny_index):
    config = configs["bevdet4d_depth_small"]
    batch = batch_with_missing_sensors(config, tiny_index)
    with synchronisations() as waits:
        there = batch.pin_memory().to(DEVICE)
    assert waits == []
    back = there.to("cpu")
    assert there.sensors.past[0].cameras.images.device.type == NAME and there.tokens == batch.tokens
    torch.testing.assert_close(vars(back.sensors.past[1].cameras), vars(batch.sensors.past[1].cameras), rtol=0, atol=0)
    torch.testing.assert_close(back.boxes, batch.boxes, rtol=0, atol=0, equal_nan=True)


@pytest.mark.slow
def test_a_model_of_the_papers_size_says_what_it_says_on_the_cpu(config_path, tiny_index):
    """The paper's layers, channels and heads, on a coarse grid."""
    settings = ("grid={extent: 54.0, cell: 1.8}", "lidar.encoder.voxel=0.225")
    config = load_config(config_path.with_name("centerpoint_voxel.yaml"), settings)
    frame, module = load_frame(tiny_index, 2, config), built(config)
    expected, found = (Predictor(module, config, None, device).predict(frame) for device in ("cpu", NAME))
    np.testing.assert_allclose(found.map_probabilities, expected.map_probabilities, atol=1e-3)

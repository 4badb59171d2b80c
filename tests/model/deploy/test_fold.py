"""Folding of batch norms changes a student's cost, not its outputs."""

import copy

import pytest
import torch
from torch import nn

from vexkd_model.data.batch import SensorBatch
from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.model import build_model


@pytest.fixture
def student(tiny_config):
    """A student whose batch norms have statistics and weights far from those that they begin with."""
    torch.manual_seed(3)
    student = build_model(tiny_config).double().eval()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            ):
                nn.init.uniform_(tensor, low, high)
    return student


def test_a_folded_student_says_the_same_in_float64(student):
    points = torch.rand(3000, 5, dtype=torch.double) * 80 - 40
    sample = torch.randint(0, 2, (3000,))
    folded = fold_batch_norms(copy.deepcopy(student))
    sensors = SensorBatch(points, sample, 2)
    with torch.no_grad():
        expected, output = student(sensors), folded(sensors)
    torch.testing.assert_close(output.features, expected.features, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.segmentation, expected.segmentation, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(output.detection, expected.detection, strict=True):
        torch.testing.assert_close(tuple(ours), tuple(theirs), rtol=1e-9, atol=1e-9)


def test_no_batch_norm_is_left(student):
    modules = fold_batch_norms(student).modules()
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in modules)

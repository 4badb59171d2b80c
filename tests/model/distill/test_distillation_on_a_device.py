"""Every mask, loss and further term of a distillation on a device that is not the CPU."""

import copy

import pytest
import torch
from support.pretend_device import DEVICE

from vexkd_model.config.distill import ResponseConfig, TeacherLabelsConfig
from vexkd_model.criterion import build_criterion
from vexkd_model.distill.distiller import Distiller
from vexkd_model.distill.teacher import Teacher
from vexkd_model.model import build_model

pytestmark = pytest.mark.usefixtures("one_thread")
FURTHER = {
    "response": ResponseConfig(heatmap=1.0, map=1.0),
    "teacher_labels": TeacherLabelsConfig(score=0.1, weight=0.5),
    "relation": 1.0,
}


@pytest.fixture(scope="module")
def on_both(student_config, teacher_config, pair_batch):
    """Function of distillation settings: losses and the student's gradient, on the CPU and on the device."""
    torch.manual_seed(3)
    # With the student's kind of head: it imitates no other.
    teacher_config = teacher_config.model_copy(update={"detection": student_config.detection})
    teacher, student = build_model(teacher_config).eval(), build_model(student_config).train()
    batch = pair_batch(student_config, teacher_config)

    def run(settings, device):
        own, there = copy.deepcopy(student).to(device), batch.to(device)
        guide = Teacher(copy.deepcopy(teacher), teacher_config)
        guide.to(torch.device(device))
        torch.manual_seed(4)
        distiller = Distiller(settings, own, guide, build_criterion(student_config)).to(device)
        output = own(there.sensors)
        terms = distiller(output.features, there, output, 0.5)
        sum(terms.values()).backward()
        gradient = torch.cat([p.grad.flatten() for p in own.parameters() if p.grad is not None])
        return {name: term.detach().cpu() for name, term in terms.items()}, gradient.cpu()

    def both(**settings):
        merged = student_config.distillation.model_copy(update=settings)
        return run(merged, "cpu"), run(merged, DEVICE)

    return both


@pytest.mark.parametrize(
    "settings",
    [
        {"masks": "fusion_queries"},
        {"masks": "random_queries", "loss": "l1"},
        {"masks": "ones", "loss": "normalised_l2"},
        {"masks": "key_points", "loss": "l2"},
        {"masks": "gaussian", "loss": "smooth_l1"},
        {"masks": "activation", **FURTHER},
    ],
    ids=lambda settings: settings["masks"],
)
def test_a_distillation_step_is_that_of_the_cpu(settings, on_both):
    (expected, expected_gradient), (terms, gradient) = on_both(**settings)
    torch.testing.assert_close(terms, expected, rtol=1e-3, atol=1e-5)
    assert (gradient - expected_gradient).norm() < 0.02 * expected_gradient.norm() > 0

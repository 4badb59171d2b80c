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
def both(student_config, teacher_config, pair_batch):
    """On the CPU and on the device: a batch, the student's output and a teacher that has looked at it."""
    torch.manual_seed(3)
    # With the student's kind of head: it imitates no other.
    teacher_config = teacher_config.model_copy(update={"detection": student_config.detection})
    teacher, student = build_model(teacher_config), build_model(student_config).train()
    batch = pair_batch(student_config, teacher_config)

    def seen_on(device):
        there, own = batch.to(device), copy.deepcopy(student).to(device)
        guide = Teacher(copy.deepcopy(teacher), teacher_config)
        guide.to(torch.device(device))
        answer = guide.run(there.teacher, heads=True)
        guide.run = lambda sensors, heads=False: answer  # once is enough for all cases
        return there, own, own(there.sensors), guide

    return seen_on("cpu"), seen_on(DEVICE)


def terms_and_gradient(settings, config, batch, student, output, teacher):
    """Terms of a distillation, and the gradient of their sum to the student's maps, on the CPU."""
    torch.manual_seed(4)
    distiller = Distiller(settings, student, teacher, build_criterion(config)).to(batch.map_masks.device)
    terms = distiller(output.features, batch, output, 0.5)
    own = [parameter for parameter in distiller.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(sum(terms.values()), [*output.features, *own], retain_graph=True, allow_unused=True)
    flat = torch.cat([gradient.flatten().cpu() for gradient in gradients if gradient is not None])
    return {name: term.detach().cpu() for name, term in terms.items()}, flat


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
def test_a_distillation_step_is_that_of_the_cpu(settings, both, student_config):
    merged = student_config.distillation.model_copy(update=settings)
    (expected, expected_gradient), (terms, gradient) = (terms_and_gradient(merged, student_config, *on) for on in both)
    torch.testing.assert_close(terms, expected, rtol=1e-3, atol=1e-5)
    assert (gradient - expected_gradient).norm() < 0.02 * expected_gradient.norm() > 0

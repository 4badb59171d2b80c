"""Learning rates over a training, and who learns at which."""

import pytest
import torch
from torch import nn

from vexkd_model.training.schedule import LEAST_SHARE, WARM_UP_STEPS, cosine_share, optimiser_and_schedule

STEPS = 20_000


@pytest.fixture
def model():
    return nn.ModuleDict({"backbone": nn.Linear(2, 3), "head": nn.Linear(3, 1)})


def rates(settings, model, backbone, steps):
    """The rate of every group at each step."""
    optimiser, schedule = optimiser_and_schedule(settings, model, backbone, steps)
    course = []
    for _ in range(steps):
        course.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    return course


def test_the_cosine_warms_up_then_falls_to_the_least():
    assert cosine_share(0, STEPS) == pytest.approx(1 / 3)
    assert cosine_share(WARM_UP_STEPS // 2, STEPS) == pytest.approx(2 / 3)
    assert cosine_share(WARM_UP_STEPS, STEPS) == pytest.approx(1)
    half_way = (WARM_UP_STEPS + STEPS) // 2
    assert cosine_share(half_way, STEPS) == pytest.approx((1 + LEAST_SHARE) / 2)
    assert cosine_share(STEPS, STEPS) == pytest.approx(LEAST_SHARE)
    assert 0 < cosine_share(0, 3) <= 1  # shorter than any warm-up


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_backbone_learns_at_its_share_of_the_rate_throughout(tiny_config, model, schedule):
    settings = tiny_config.training.model_copy(update={"schedule": schedule, "backbone_rate": 0.1})
    course = rates(settings, model, model["backbone"], 40)
    assert max(rate for rate, _ in course) == pytest.approx(settings.learning_rate, rel=0.01)
    assert all(slower == pytest.approx(rate / 10) for rate, slower in course)


def test_every_parameter_that_learns_is_in_one_group(tiny_config, model):
    model["backbone"].bias.requires_grad_(False)
    optimiser, _ = optimiser_and_schedule(tiny_config.training, model, model["backbone"], 10)
    grouped = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert isinstance(optimiser, torch.optim.AdamW)

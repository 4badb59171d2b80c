"""The CenterHead's two structures: what they hold, and that they train and export."""

import copy
import math

import pytest
import torch
from torch import nn

from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.heads.center import HEATMAP_BIAS, REGRESSION_CHANNELS, CenterHead, TaskMaps
from vexkd_model.heads.center_loss import center_loss, center_targets, late_factors
from vexkd_model.types import BevGrid

GRID = BevGrid(-8.0, 8.0, -6.0, 6.0, 1.0)  # 12 rows, 16 columns
TASKS = [[0], [1, 2], [8, 9]]
BOXES = torch.tensor(
    [
        [3.2, 1.4, 0.5, 4.0, 2.0, 1.5, 0.3, 2.0, -1.0],
        [-5.0, -2.3, 1.0, 7.0, 2.5, 3.0, 1.3, 1.0, 0.5],
        [0.0, 4.4, 0.9, 0.7, 0.6, 1.7, -2.0, 0.2, 1.1],
    ]
)
LABELS = torch.tensor([0, 2, 8])

both = pytest.mark.parametrize("separate", [False, True])


def head(separate):
    torch.manual_seed(0)
    return CenterHead(6, 8, 8, [len(ids) for ids in TASKS], separate)


def losses(outputs):
    terms = [
        center_loss(maps, center_targets([BOXES, BOXES], [LABELS, LABELS], ids, GRID))
        for maps, ids in zip(outputs, TASKS, strict=True)
    ]
    return torch.stack([value for task in terms for value in task.values()])


@both
def test_every_task_says_all_of_a_box_in_every_cell(separate):
    outputs = head(separate)(torch.rand(2, 6, *GRID.shape))
    for maps, ids in zip(outputs, TASKS, strict=True):
        channels = {"heatmap": len(ids), **REGRESSION_CHANNELS}
        assert maps.axis is None
        assert {name: tuple(getattr(maps, name).shape) for name in TaskMaps._fields if name != "axis"} == {
            name: (2, count, *GRID.shape) for name, count in channels.items()
        }


def test_the_published_head_has_a_branch_of_two_3x3_convolutions_for_each_field_of_each_task():
    published = CenterHead(512, 64, 64, [1, 2, 2, 1, 2, 2], separate=True)
    kernels = [m.kernel_size for m in published.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [(3, 3)] * (1 + 6 * 6 * 2)
    # by hand: shared; six branches a task; their outputs, 1 + 2 classes and 10 numbers of the box a task
    norm = 2 * 64
    expected = (512 * 64 * 9 + norm) + 36 * (64 * 64 * 9 + norm) + (10 + 6 * 10) * (64 * 9 + 1)
    assert sum(p.numel() for p in published.parameters()) == expected
    assert torch.equal(published.tasks[1].branches["heatmap"][-1].bias, torch.full((2,), HEATMAP_BIAS))
    assert pytest.approx(-2.19, abs=0.01) == HEATMAP_BIAS


def test_branches_share_nothing_but_the_first_convolution():
    model = head(True)
    maps = model(torch.rand(1, 6, *GRID.shape))[1]
    maps.size.sum().backward()
    touched = {
        name.split(".")[3] if "branches" in name else name.split(".")[0]
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    assert touched == {"shared", "size"}


@both
def test_gradients_reach_every_parameter(separate):
    model = head(separate)
    losses(model(torch.randn(2, 6, *GRID.shape))).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@both
def test_a_batch_equals_its_samples_one_by_one(separate):
    model, x = head(separate).eval(), torch.randn(3, 6, *GRID.shape)
    together = model(x)
    for i in range(3):
        for maps, alone in zip(together, model(x[i : i + 1]), strict=True):
            torch.testing.assert_close([field[i : i + 1] for field in maps[:6]], list(alone[:6]))


@both
def test_the_exported_head_says_the_same(separate):
    model, x = head(separate).eval(), torch.randn(1, 6, *GRID.shape)
    exported = torch.export.export(model, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), model(x))


@both
def test_a_folded_head_in_channels_last_says_the_same(separate):
    model, x = head(separate), torch.randn(4, 6, *GRID.shape)
    model(x)  # statistics that are not those of the start
    folded = fold_batch_norms(copy.deepcopy(model.eval())).to(memory_format=torch.channels_last)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x), atol=1e-4, rtol=1e-4)


@both
def test_bfloat16_training_is_within_its_rounding_of_float32(separate):
    model, x = head(separate), torch.randn(2, 6, *GRID.shape)
    exact = losses(model(x))
    with torch.autocast("cpu", torch.bfloat16):
        coarse = losses(model(x))
    coarse.sum().backward()
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, exact, atol=0.05, rtol=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_head_with_an_axis_predicts_it_beside_the_published_fields():
    with_axis = CenterHead(6, 8, 8, [1], axis=True)(torch.rand(2, 6, *GRID.shape))[0]
    assert with_axis.axis.shape == (2, 2, *GRID.shape)
    terms = center_loss(with_axis, center_targets([BOXES, BOXES], [LABELS, LABELS], [0], GRID))
    assert set(terms) == {"heatmap", "axis", *REGRESSION_CHANNELS}


def test_the_axis_of_an_object_is_that_of_the_same_object_turned_half_way():
    turned = BOXES.clone()
    turned[:, 6] += math.pi
    here, there = (center_targets([boxes], [LABELS], [0, 2, 8], GRID).fields for boxes in (BOXES, turned))
    torch.testing.assert_close(here["axis"], there["axis"], atol=1e-6, rtol=0)
    torch.testing.assert_close(here["heading"], -there["heading"], atol=1e-6, rtol=0)


def test_late_weights_grow_in_the_second_quarter_and_multiply_their_own_term_alone():
    late = {"velocity": 20.0, "heading": 2.0}
    assert [late_factors(late, p)["velocity"] for p in (0.0, 0.25, 0.375, 0.5, 1.0)] == [1.0, 1.0, 10.5, 20.0, 20.0]
    maps = head(False)(torch.rand(2, 6, *GRID.shape))[0]
    targets = center_targets([BOXES, BOXES], [LABELS, LABELS], TASKS[0], GRID)
    plain, heavy = center_loss(maps, targets), center_loss(maps, targets, late_factors(late, 0.5))
    for name, value in plain.items():
        torch.testing.assert_close(heavy[name], value * late.get(name, 1.0))

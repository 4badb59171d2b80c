"""Relations of an object's parts, against loops over points in float64."""

import math

import numpy as np
import pytest
import torch

from vexkd_model.distill.fixed_masks import nine_points
from vexkd_model.distill.relation import relation_loss, relations
from vexkd_model.types import BevGrid

GRID = BevGrid(-10.0, 10.0, -5.0, 5.0, 1.0)


def maps(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def box(x, y, length, width, yaw=0.0):
    return torch.tensor([[x, y, 0.0, length, width, 1.5, yaw, 0.0, 0.0]])


def read(features, x, y):
    """Read the map bilinearly between the centres of cells; beyond the outermost centres, at the border."""
    column, row = min(max(x + 10 - 0.5, 0), 19), min(max(y + 5 - 0.5, 0), 9)
    left, low = min(int(column), 18), min(int(row), 8)
    u, v = column - left, row - low
    return (
        (1 - u) * (1 - v) * features[:, low, left]
        + u * (1 - v) * features[:, low, left + 1]
        + (1 - u) * v * features[:, low + 1, left]
        + u * v * features[:, low + 1, left + 1]
    )


def by_hand(student, teacher, boxes):
    differences = []
    for s, t, of_sample in zip(student.double().numpy(), teacher.double().numpy(), boxes, strict=True):
        for points in nine_points(of_sample).double().numpy():
            total = 0.0
            for a in points:
                for b in points:
                    cosines = []
                    for features in (s, t):
                        p, q = read(features, *a), read(features, *b)
                        cosines.append(p @ q / math.sqrt((p @ p) * (q @ q)))
                    total += abs(cosines[0] - cosines[1])
            differences.append(total / 81)
    return sum(differences) / max(len(differences), 1)


def test_the_loss_is_the_difference_of_cosines_between_nine_points():
    student, teacher = maps(0, 2, 4, 10, 20), maps(1, 2, 7, 10, 20)
    boxes = [torch.cat([box(1.3, 0.4, 4.0, 2.0, 0.7), box(-9.0, 4.0, 5.0, 3.0, -2.0)]), box(3.0, -2.0, 0.6, 0.7)]
    loss = relation_loss(student, teacher, boxes, GRID)
    assert loss.item() == pytest.approx(by_hand(student, teacher, boxes), rel=1e-4)


def test_a_map_of_the_same_directions_costs_nothing_whatever_its_length():
    teacher = maps(1, 1, 4, 10, 20)
    turn = torch.linalg.qr(maps(2, 4, 4)).Q
    student = 3.0 * torch.einsum("cd,bdyx->bcyx", turn, teacher)
    assert relation_loss(student, teacher, [box(1.3, 0.4, 4.0, 2.0, 0.7)], GRID).item() == pytest.approx(0.0, abs=1e-5)


def test_boxes_beyond_the_grid_and_frames_without_boxes_do_not_count():
    student, teacher = maps(0, 2, 4, 10, 20).requires_grad_(), maps(1, 2, 4, 10, 20)
    inside, outside = box(1.3, 0.4, 4.0, 2.0), box(30.0, 0.0, 4.0, 2.0)
    alone = relation_loss(student[:1], teacher[:1], [inside], GRID)
    torch.testing.assert_close(
        relation_loss(student, teacher, [torch.cat([inside, outside]), torch.empty(0, 9)], GRID), alone
    )
    nothing = relation_loss(student, teacher, [torch.empty(0, 9)] * 2, GRID)
    nothing.backward()
    assert nothing == 0 and not student.grad.any()


def test_an_empty_map_has_a_finite_gradient():
    student = torch.zeros(1, 4, 10, 20, requires_grad=True)
    relation_loss(student, maps(1, 1, 4, 10, 20), [box(1.3, 0.4, 4.0, 2.0)], GRID).backward()
    assert student.grad.isfinite().all()


def test_a_point_resembles_itself():
    similar = relations(maps(0, 4, 10, 20), nine_points(box(1.3, 0.4, 4.0, 2.0)), GRID)
    torch.testing.assert_close(similar.diagonal(dim1=1, dim2=2), torch.ones(1, 9))
    torch.testing.assert_close(similar, similar.transpose(1, 2))

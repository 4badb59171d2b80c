"""Response terms against their formulas, cell by cell and pixel by pixel in float64."""

import math

import numpy as np
import pytest
import torch

from vexkd_model.data.batch import Batch
from vexkd_model.distill.response import depth_response, heatmap_response, map_response, true_heatmaps
from vexkd_model.types import BevGrid

GRID = BevGrid(-10.0, 10.0, -5.0, 5.0, 1.0)


def logits(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def probability(x):
    return 1 / (1 + math.exp(-x))


def test_heatmaps_are_compared_where_teacher_and_truth_see_an_object():
    student, teacher = logits(0, 2, 3, 4, 5), logits(1, 2, 3, 4, 5)
    truth = logits(2, 2, 3, 4, 5).sigmoid()
    total, weights = 0.0, 0.0
    for b in range(2):
        for y in range(4):
            for x in range(5):
                column = slice(None), y, x
                weight = max(probability(t) for t in teacher[b][column].tolist()) * max(
                    truth[b][column].double().tolist()
                )
                weights += weight
                total += weight * sum(
                    (probability(s) - probability(t)) ** 2
                    for s, t in zip(student[b][column].tolist(), teacher[b][column].tolist(), strict=True)
                )
    assert weights > 1
    assert heatmap_response(student, teacher, truth).item() == pytest.approx(total / weights, rel=1e-5)


def test_equal_heatmaps_and_frames_without_objects_cost_nothing():
    teacher, truth = logits(1, 2, 3, 4, 5), logits(2, 2, 3, 4, 5).sigmoid()
    assert heatmap_response(teacher, teacher, truth) == 0
    student = logits(0, 2, 3, 4, 5).requires_grad_()
    nothing = heatmap_response(student, teacher, torch.zeros_like(truth))
    nothing.backward()
    assert nothing == 0 and not student.grad.any()


def test_an_error_far_from_every_object_does_not_count():
    teacher, truth = logits(1, 1, 2, 4, 5), torch.zeros(1, 2, 4, 5)
    truth[0, 1, 2, 2] = 1.0
    student = logits(0, 1, 2, 4, 5).requires_grad_()
    heatmap_response(student, teacher, truth).backward()
    assert student.grad[0, :, 2, 2].all() and student.grad.count_nonzero() == 2


def test_maps_are_compared_where_the_map_is_known():
    student, teacher = logits(0, 2, 6, 4, 5), logits(1, 2, 6, 4, 5)
    known = torch.from_numpy(np.random.default_rng(2).uniform(size=(2, 4, 5)) > 0.3)
    by_hand = 0.0
    for b, y, x in known.nonzero().tolist():
        for c in range(6):
            p, q = probability(student[b, c, y, x].item()), probability(teacher[b, c, y, x].item())
            by_hand -= q * math.log(p) + (1 - q) * math.log(1 - p)
    assert map_response(student, teacher, known).item() == pytest.approx(by_hand / known.sum().item(), rel=1e-5)
    assert map_response(student, teacher, torch.zeros_like(known)) == 0


def test_the_student_stands_still_where_it_says_what_the_teacher_says():
    teacher = logits(1, 1, 6, 4, 5)
    student = teacher.clone().requires_grad_()
    map_response(student, teacher, torch.ones(1, 4, 5, dtype=torch.bool)).backward()
    assert student.grad.abs().max() < 1e-7


def test_true_heatmaps_follow_the_order_of_the_tasks():
    boxes = torch.zeros(2, 9)
    boxes[:, :6] = torch.tensor([[0.5, 0.5, 0.0, 4.0, 2.0, 1.5], [-5.5, 2.5, 0.0, 1.0, 1.0, 2.0]])
    batch = Batch(None, [boxes], [torch.tensor([0, 8])], None, None, ["token"])
    heat = true_heatmaps(batch, [[3], [8, 9], [0]], GRID)
    assert heat.shape == (1, 4, 10, 20)
    assert (heat == 1).nonzero().tolist() == [[0, 1, 7, 4], [0, 3, 5, 10]]


def depth_logits(seed):
    return logits(seed, 2, 3, 5, 2, 4)


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def test_depths_are_compared_by_cross_entropy_in_the_pixels_of_present_cameras():
    student, teacher = depth_logits(0), depth_logits(1)
    present = torch.tensor([[True, False, True], [True, True, False]])
    costs = []
    for b, n in present.nonzero().tolist():
        for v in range(2):
            for u in range(4):
                ours, theirs = (softmax(x[b, n, :, v, u].tolist()) for x in (student, teacher))
                costs.append(-sum(q * math.log(p) for p, q in zip(ours, theirs, strict=True)))
    assert depth_response(student, teacher, present).item() == pytest.approx(np.mean(costs), rel=1e-5)


def test_equal_depths_leave_no_gradient_and_no_camera_no_loss():
    student = depth_logits(0).requires_grad_()
    depth_response(student, depth_logits(0), torch.ones(2, 3, dtype=torch.bool)).backward()
    assert student.grad.abs().max() < 1e-7
    assert depth_response(student, depth_logits(1), torch.zeros(2, 3, dtype=torch.bool)) == 0

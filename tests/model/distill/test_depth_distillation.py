"""The student's depths against the teacher's, pixel by pixel in float64."""

import math

import numpy as np
import pytest
import torch

from vexkd_model.distill.depth_distillation import depth_distillation


def logits(seed):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 3, 5, 2, 4))).float()


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def test_the_loss_is_the_cross_entropy_in_the_pixels_of_present_cameras():
    student, teacher = logits(0), logits(1)
    present = torch.tensor([[True, False, True], [True, True, False]])
    costs = []
    for b, n in present.nonzero().tolist():
        for v in range(2):
            for u in range(4):
                ours, theirs = (softmax(x[b, n, :, v, u].tolist()) for x in (student, teacher))
                costs.append(-sum(q * math.log(p) for p, q in zip(ours, theirs, strict=True)))
    assert depth_distillation(student, teacher, present).item() == pytest.approx(np.mean(costs), rel=1e-5)


def test_equal_depths_leave_no_gradient_and_no_camera_no_loss():
    student = logits(0).requires_grad_()
    depth_distillation(student, logits(0), torch.ones(2, 3, dtype=torch.bool)).backward()
    assert student.grad.abs().max() < 1e-7
    assert depth_distillation(student, logits(1), torch.zeros(2, 3, dtype=torch.bool)) == 0

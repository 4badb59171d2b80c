"""Further terms in two processes with one sample each: the same as in one process with both samples."""

import pytest
import torch
from support.two_processes import in_two_processes

from vexkd_model.distill.relation import relation_loss
from vexkd_model.distill.response import depth_response, heatmap_response, map_response
from vexkd_model.types import BevGrid

GRID = BevGrid(-5.0, 5.0, -5.0, 5.0, 1.0)


def terms(which):
    """Terms and their gradient on sample `which` of two, or on both; the second one shows no object."""
    here = slice(None) if which is None else slice(which, which + 1)
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 6, 10, 10, generator=generator) for _ in range(2))
    student = student[here].requires_grad_()
    truth = torch.rand(2, 6, 10, 10, generator=generator)
    truth[1] = 0.0
    known = torch.rand(2, 10, 10, generator=generator) > 0.3
    known[1, :8] = False
    boxes = [torch.tensor([[0.5, 0.5, 0.0, 4.0, 2.0, 1.5, 0.3, 0.0, 0.0]]), torch.empty(0, 9)]
    present = torch.tensor([[True, True, False], [True, False, False]])
    depths = [x.reshape(len(x), 3, 2, 10, 10) for x in (student, teacher[here])]
    of_terms = torch.stack(
        [
            heatmap_response(student, teacher[here], truth[here]),
            map_response(student, teacher[here], known[here]),
            relation_loss(student, teacher[here], boxes[here], GRID),
            depth_response(*depths, present[here]),
        ]
    )
    of_terms.sum().backward()
    return of_terms.detach(), student.grad


@pytest.fixture(scope="module")
def processes():
    return in_two_processes(terms)


def test_the_mean_of_the_processes_terms_and_gradients_is_that_of_the_whole_batch(processes):
    whole, gradient = terms(None)
    torch.testing.assert_close(sum(found[0] for found in processes) / 2, whole)
    torch.testing.assert_close(torch.cat([found[1] for found in processes]) / 2, gradient)

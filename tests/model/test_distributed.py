"""Collective operations of two processes, against one process with all data."""

import pytest
import torch
from support.two_processes import in_two_processes

from vexkd_model.distributed import all_gather, broadcast_error, mean_count, mean_over_processes
from vexkd_model.errors import UserError
from vexkd_model.heads.center_loss import gaussian_focal_loss, regression_loss
from vexkd_model.heads.segmentation import segmentation_loss

COUNTS = [(3, 0), (0, 0), (1, 0), (2, 7)]
CPU = torch.device("cpu")


def of_process(rank):
    error = UserError("file: gone; bring it back") if rank == 1 else None
    return {
        "counts": [mean_count(torch.tensor(pair[rank])) for pair in COUNTS],
        "mean": mean_over_processes(torch.tensor([1.0, 4.0]) * (rank + 1)),
        "all_gather": all_gather([f"token {rank}"]),
        "error": broadcast_error(error, CPU),
        "nobody": broadcast_error(None, CPU),
        "losses": losses(rank),
    }


def losses(which):
    """Loss and gradient of three losses on sample `which` of two, or on both; the second one shows no object."""
    here = slice(None) if which is None else slice(which, which + 1)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 5, 5, generator=generator)[here].requires_grad_()
    target = torch.zeros(2, 6, 5, 5)
    target[0, 1, 2, 3] = target[0, 4, 0, 0] = 1.0
    known = torch.rand(2, 5, 5, generator=generator) > 0.3
    known[1, :4] = False
    objects = torch.tensor(2 if which is None else 2 - 2 * which)
    height = logits[:, 0, 0, :2][: objects.item() or 0]
    total = torch.stack(
        [
            gaussian_focal_loss(logits, target[here]),
            segmentation_loss(logits, target[here], known[here]),
            regression_loss(
                "height", height[: 1 if objects else 0], torch.ones(1 if objects else 0, 2), mean_count(objects)
            ),
        ]
    )
    total.sum().backward()
    return total.detach(), logits.grad


@pytest.fixture(scope="module")
def processes():
    return in_two_processes(of_process)


def test_counts_are_shared_out_evenly_and_never_all_zero(processes):
    for found in processes:
        assert found["counts"] == [1.5, 0.5, 0.5, 4.5]
    assert [mean_count(torch.tensor(count)) for count in (0, 1, 5)] == [1, 1, 5]


def test_the_mean_of_the_processes_losses_and_gradients_is_that_of_the_whole_batch(processes):
    loss, gradient = losses(None)
    torch.testing.assert_close(sum(found["losses"][0] for found in processes) / 2, loss)
    torch.testing.assert_close(torch.cat([found["losses"][1] for found in processes]) / 2, gradient)


def test_means_and_lists_are_the_same_in_every_process(processes):
    for found in processes:
        assert found["mean"].tolist() == [1.5, 6.0] and found["all_gather"] == [["token 0"], ["token 1"]]


def test_an_error_of_one_process_stops_them_all_with_the_same_words(processes):
    for found in processes:
        assert str(found["error"]) == "file: gone; bring it back" and found["nobody"] is None


def test_one_process_agrees_with_itself():
    error = UserError("file: gone; bring it back")
    assert broadcast_error(error, CPU) is error and broadcast_error(None, CPU) is None and all_gather(3) == [3]

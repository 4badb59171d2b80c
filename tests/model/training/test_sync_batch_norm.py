"""Batch norm over two processes against PyTorch's over the same values in one."""

import copy

import pytest
import torch
from support.two_processes import in_two_processes
from torch import nn

from vexkd_model.training.sync_batch_norm import ProcessesBatchNorm, in_one_process, over_processes

CHANNELS, STEPS = 3, 2
ROWS = {"maps": (2, 1), "rows": (7, 4), "an empty process": (0, 5), "one value in all": (1, 0)}


def new_norm(kind):
    torch.manual_seed(5)
    norm = nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=0.2) if kind == "maps" else nn.BatchNorm1d(CHANNELS)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(norm)


def values(kind, step):
    """What both processes see, and how it is weighed in the loss; a mean far from zero, where squares would cancel."""
    generator = torch.Generator().manual_seed(step)
    shape = (sum(ROWS[kind]), CHANNELS, *((4, 5) if kind == "maps" else ()))
    return 100 + torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def trained(model, kind, rank=None):
    """Outputs, gradients of the inputs and of the parameters, and buffers, after two steps."""
    rows = slice(None) if rank is None else slice(rank * ROWS[kind][0], ROWS[kind][0] + rank * ROWS[kind][1])
    found = []
    for step in range(STEPS):
        x, weight = (tensor[rows] for tensor in values(kind, step))
        x.requires_grad_()
        y = model(x)
        (y * weight).sum().backward()
        found += [y.detach(), x.grad]
    return found, [p.grad for p in model.parameters()], list(model.buffers())


def of_process(rank):
    return {kind: trained(over_processes(new_norm(kind)), kind, rank) for kind in ROWS}


@pytest.fixture(scope="module")
def processes():
    return in_two_processes(of_process)


@pytest.mark.parametrize("kind", ["maps", "rows", "an empty process"])
def test_two_processes_normalise_like_one_with_all_values(processes, kind):
    outputs, gradients, buffers = trained(new_norm(kind), kind)
    first, second = (found[kind] for found in processes)
    close = {"rtol": 1e-4, "atol": 1e-4}  # float32 around 100
    for i, whole in enumerate(outputs):
        torch.testing.assert_close(torch.cat([first[0][i], second[0][i]]), whole, **close)
    for i, gradient in enumerate(gradients):
        torch.testing.assert_close(first[1][i] + second[1][i], gradient, **close)
    for of_first, of_second, buffer in zip(first[2], second[2], buffers, strict=True):
        assert torch.equal(of_first, of_second)
        torch.testing.assert_close(of_first, buffer, **close)


def test_one_value_in_all_processes_is_served_by_the_running_statistics(processes):
    fresh = new_norm("one value in all").eval()
    (output, *_), _, buffers = processes[0]["one value in all"]
    torch.testing.assert_close(output, fresh(values("one value in all", 0)[0]).detach())
    assert all(torch.equal(mine, before) for mine, before in zip(buffers, fresh.buffers(), strict=True))


def test_checkpoints_and_evaluation_do_not_know_the_difference():
    model = nn.ModuleDict({"a": new_norm("maps"), "b": new_norm("rows")})
    plain = copy.deepcopy(model)
    parameters = list(map(id, model.parameters()))
    over_processes(model)
    assert isinstance(model["a"][0], ProcessesBatchNorm) and isinstance(model["b"][0], ProcessesBatchNorm)
    assert list(model.state_dict()) == list(plain.state_dict()) and list(map(id, model.parameters())) == parameters
    x, _ = values("maps", 0)
    assert torch.equal(model.eval()["a"](x), plain.eval()["a"](x))
    model["b"][0].running_mean += 1
    in_one_process(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert model.state_dict()["b.0.running_mean"].tolist() == [1.0] * CHANNELS

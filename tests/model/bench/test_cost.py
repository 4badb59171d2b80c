"""Costs and floors are those that one counts by hand."""

import pytest
import torch
from torch import nn

from vexkd_model.bench.cost import cost_of
from vexkd_model.bench.rates import Cost, Rates, floors_ms
from vexkd_model.bench.report import markdown


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_a_convolution_reads_its_map_and_its_weights_once_and_writes_once(mode):
    layer, image = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU()), torch.ones(1, 3, 10, 20)
    with mode():
        cost = cost_of(lambda: layer(image))
    cells = 10 * 20
    assert cost == Cost(flops=2 * cells * 8 * 3 * 9, values=3 * cells + 8 * 3 * 9 + 8 * cells)


def test_a_backward_pass_counts_twice_its_forward_pass():
    a, b = (torch.ones(16, 32, requires_grad=True), torch.ones(32, 8, requires_grad=True))
    forward = 2 * 16 * 32 * 8
    assert cost_of(lambda: (a @ b).sum().backward()).flops == 3 * forward


def test_floors_follow_rates_and_bytes_of_the_precision():
    cost, rates = Cost(flops=2e9, values=5e6), Rates(gflops={"float32": 100.0, "int8": 400.0}, gbytes=10.0)
    assert floors_ms(cost, "float32", rates) == pytest.approx((20.0, 2.0))
    assert floors_ms(cost, "int8", rates) == pytest.approx((5.0, 0.5))
    assert floors_ms(cost, "bfloat16", rates) == (None, pytest.approx(1.0))


def test_a_table_is_aligned_markdown():
    assert markdown(("name", "ms"), [("a", "1.0"), ("longer", "10.0")], words=1) == (
        "| name   |   ms |\n| ------ | ---: |\n| a      |  1.0 |\n| longer | 10.0 |"
    )

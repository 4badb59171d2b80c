"""Layers that several networks share; their names are those of saved weights."""

import pytest
import torch
from torch import nn

from vexkd_model.layers import (
    BEV_EPS,
    IMAGE_EPS,
    BasicBlock,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    FeedForward,
    conv_bn_relu,
    feed_forward_layers,
)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (4, 1), (1, 2), (1, 6)])
@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (9, 7)])
def test_a_convolution_keeps_the_size_up_to_its_stride_rounded_up(kernel, stride, dilation, rows, columns):
    out = conv_bn_relu(3, 5, kernel, stride, dilation)(torch.randn(2, 3, rows, columns))
    assert out.shape == (2, 5, -(-rows // stride), -(-columns // stride))
    assert out.min() == 0


@pytest.mark.parametrize("eps", [BEV_EPS, IMAGE_EPS])
def test_epsilon_reaches_every_batch_norm(eps):
    block = nn.ModuleList([conv_bn_relu(2, 2, eps=eps), BasicBlock(2, 2, eps=eps), BasicBlock(2, 4, stride=2, eps=eps)])
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 5 and all(norm.eps == eps for norm in norms)


def test_a_map_without_variance_shows_which_epsilon_a_norm_has():
    for eps in (BEV_EPS, IMAGE_EPS):
        _, norm, _ = conv_bn_relu(1, 1, kernel=1, eps=eps).eval()
        norm.running_var.zero_()
        torch.testing.assert_close(norm(torch.ones(1, 1, 1, 1)).item(), eps**-0.5)


@pytest.mark.parametrize("make, shape", [(BatchNorm1d, (1, 3)), (BatchNorm2d, (1, 3, 1, 1))])
def test_one_value_a_channel_is_normalised_by_the_running_statistics(make, shape):
    norm = make(3)
    norm.running_mean.fill_(2.0)
    x = torch.full(shape, 5.0, requires_grad=True)
    out = norm(x)
    torch.testing.assert_close(out, torch.full(shape, 3.0), rtol=1e-4, atol=0)
    out.sum().backward()
    assert x.grad.min() > 0 and norm.running_mean.tolist() == [2.0] * 3
    norm(torch.randn(4, *shape[1:]))  # two values and more teach the statistics
    assert norm.running_mean.tolist() != [2.0] * 3


def test_bev_maps_are_the_default_with_their_wider_epsilon():
    assert conv_bn_relu(2, 2)[1].eps == 1e-3 and BasicBlock(2, 2).layers[2].eps == 1e-3
    assert nn.BatchNorm2d(2).eps == IMAGE_EPS


def test_a_block_whose_last_norm_is_zero_is_its_shortcut():
    same, halved = BasicBlock(3, 3).eval(), BasicBlock(3, 6, stride=2).eval()
    x = torch.randn(2, 3, 5, 8)
    for block in (same, halved):
        block.layers[-1].weight.data.zero_()
    assert torch.equal(same(x), x.relu())
    assert torch.equal(halved(x), halved.shortcut(x).relu()) and halved(x).shape == (2, 6, 3, 4)


def test_a_feed_forward_is_a_residual_around_its_layers_then_a_norm():
    layer, x = FeedForward(4, 8, dropout=0.5).eval(), torch.randn(2, 3, 4)
    first, _, _, second, _ = layer.layers
    torch.testing.assert_close(layer(x), layer.norm(x + second(first(x).relu())))


def test_names_of_weights_are_those_of_packages_that_exist():
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    conv = ["0.weight", *(f"1.{name}" for name in norm)]
    block = [*(f"layers.0.{name}" for name in conv), "layers.1.weight", *(f"layers.2.{name}" for name in norm)]
    assert list(conv_bn_relu(2, 2).state_dict()) == conv
    assert list(BasicBlock(2, 2).state_dict()) == block
    assert list(BasicBlock(2, 4, stride=2).state_dict()) == [*block, "shortcut.weight", "shortcut.bias"]
    assert list(feed_forward_layers(2, 4, 0.0).state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert list(FeedForward(2, 4, 0.0).state_dict()) == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.3.weight",
        "layers.3.bias",
        "norm.weight",
        "norm.bias",
    ]


def nhwc(*shape):
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups", "bias"), [(3, 1, 1, 1, False), (3, 2, 2, 2, True), (1, 1, 1, 1, True)]
)
def test_a_convolution_and_its_gradients_are_those_of_pytorch_in_either_memory(
    kernel, stride, dilation, groups, bias, monkeypatch
):
    monkeypatch.setattr("vexkd_model.layers._has_avx512", lambda: False)
    torch.manual_seed(0)
    ours = Conv2d(4, 6, kernel, stride, dilation * (kernel // 2), dilation, groups, bias)
    theirs = nn.Conv2d(4, 6, kernel, stride, dilation * (kernel // 2), dilation, groups, bias)
    theirs.load_state_dict(ours.state_dict())
    for x in (nhwc(3, 4, 11, 9), torch.randn(3, 4, 11, 9, requires_grad=True)):
        results = []
        for layer in (ours, theirs):
            out = layer(x)
            gradients = torch.autograd.grad(out, [x, *layer.parameters()], torch.ones_like(out).cumsum(dim=2))
            results.append([out, *gradients])
        for our, their in zip(*results, strict=True):
            torch.testing.assert_close(our, their, atol=1e-4, rtol=1e-5)


def test_the_gradient_to_a_weight_is_made_from_nchw_where_that_is_faster(monkeypatch):
    def made_of(x, without_avx512=True):
        monkeypatch.setattr("vexkd_model.layers._has_avx512", lambda: not without_avx512)
        return type(Conv2d(4, 6, 3)(x).grad_fn).__name__

    assert made_of(nhwc(3, 4, 11, 9)) == "_ConvolutionBackward"
    assert (
        made_of(torch.randn(3, 4, 11, 9)) == made_of(nhwc(3, 4, 11, 9), without_avx512=False) == "ConvolutionBackward0"
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert made_of(nhwc(3, 4, 11, 9)) == "ConvolutionBackward0"


def test_a_frozen_convolution_still_hands_its_gradient_on(monkeypatch):
    monkeypatch.setattr("vexkd_model.layers._has_avx512", lambda: False)
    x, layer = nhwc(2, 4, 5, 6), Conv2d(4, 6, 3).requires_grad_(False)
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0

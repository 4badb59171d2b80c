"""BEVDet's BEV encoder: same grid, published size, everything learns."""

import pytest
import torch
from torch.nn import functional as F

from vexkd_model.bev.resnet import ResNetBevEncoder


def small(seed=0):
    torch.manual_seed(seed)
    return ResNetBevEncoder(4, [6, 8, 10], [2, 1, 2], 5)


def lows(count=2, size=(21, 18), seed=0):
    return torch.randn(count, 4, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(16, 16), (45, 45), (21, 18), (5, 9)])
@torch.no_grad()
def test_the_high_level_map_lies_on_the_grid_of_the_low_level_map(size):
    encoder = small().eval()
    assert encoder.channels == 5
    assert encoder(lows(size=size)).shape == (2, 5, *size)


@torch.no_grad()
def test_a_grid_of_180_cells_goes_through_90_45_and_23():
    encoder, x = small().eval(), lows(1, (180, 180))
    sides = []
    for stage in encoder.stages:
        x = stage(x)
        sides.append(x.shape[-2:])
    assert sides == [(90, 90), (45, 45), (23, 23)]


def test_the_published_encoder_has_the_published_number_of_weights():
    """64 → 128, 256, 512 with 2 blocks each → 256, counted layer by layer from BEVDet's public code."""

    def conv(channels_in, channels_out, kernel, bias):
        return channels_in * channels_out * kernel**2 + bias * channels_out

    expected = 0
    for narrow, wide in ((64, 128), (128, 256), (256, 512)):
        first = conv(narrow, wide, 3, False) + conv(wide, wide, 3, False) + conv(narrow, wide, 3, True)
        expected += first + 2 * conv(wide, wide, 3, False) + 4 * 2 * wide
    expected += conv(128 + 512, 512, 3, False) + conv(512, 512, 3, False) + conv(512, 256, 3, False)
    expected += 2 * (512 + 512 + 256) + conv(256, 256, 1, True)
    with torch.device("meta"):
        encoder = ResNetBevEncoder(64, [128, 256, 512], [2, 2, 2], 256)
    assert sum(p.numel() for p in encoder.parameters()) == expected == 18_950_784


@torch.no_grad()
def test_it_is_the_residual_network_and_the_join_that_it_says_it_is():
    encoder, low = small().eval(), lows()

    def brick(x, conv, stride=1, relu=True):
        x = F.conv2d(x, conv.weight, stride=stride, padding=1) / (1 + 1e-3) ** 0.5  # a fresh norm in eval
        return x.clamp(min=0) if relu else x

    def corners_aligned(x, size):
        for dim, n in ((2, size[0]), (3, size[1])):
            at = torch.linspace(0, x.shape[dim] - 1, n)
            low = at.floor().long()
            high, share = (low + 1).clamp(max=x.shape[dim] - 1), at - low
            share = share.view(-1, 1) if dim == 2 else share
            x = x.index_select(dim, low) * (1 - share) + x.index_select(dim, high) * share
        return x

    x, first = low, None
    for stage in encoder.stages:
        for i, block in enumerate(stage):
            stride = 2 if i == 0 else 1
            inner = brick(brick(x, block.layers[0][0], stride), block.layers[1], relu=False)
            beside = F.conv2d(x, block.shortcut.weight, block.shortcut.bias, 2, 1) if i == 0 else x
            x = (inner + beside).clamp(min=0)
        first = x if first is None else first
    x = torch.cat([first, corners_aligned(x, first.shape[-2:])], dim=1)
    x = corners_aligned(brick(brick(x, encoder.join[0][0]), encoder.join[1][0]), low.shape[-2:])
    x = F.conv2d(brick(x, encoder.output[0][0]), encoder.output[1].weight, encoder.output[1].bias)
    torch.testing.assert_close(encoder(low), x, atol=1e-5, rtol=1e-4)


def test_every_weight_learns():
    encoder = small()
    encoder(lows()).square().mean().backward()
    assert {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0} == set()


@torch.no_grad()
def test_a_batch_equals_its_samples_one_by_one():
    encoder = small().eval()
    together = encoder(lows(3))
    for i in range(3):
        torch.testing.assert_close(encoder(lows(3)[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_bfloat16_says_nearly_the_same():
    encoder = small().eval()
    with torch.autocast("cpu", torch.bfloat16):
        low = encoder(lows())
    exact = encoder(lows())
    assert (low.float() - exact).abs().max() < 0.03 * exact.abs().max()


def test_it_is_exported():
    encoder = small().eval()
    exported = torch.export.export(encoder, (lows(),), strict=False).module()
    torch.testing.assert_close(exported(lows(seed=1)), encoder(lows(seed=1)))


def test_a_single_stage_has_nothing_to_join():
    with pytest.raises(ValueError, match="two or more"):
        ResNetBevEncoder(4, [6], [1], 5)

"""The three necks, against their definitions written out."""

import pytest
import torch
from torch.nn import functional as F

from vexkd_model.camera.fpn import FPN, ConcatFPN, FinestFPN

CHANNELS, OUT = [6, 8, 10], 12
SIZES = [(29, 50), (15, 25), (8, 13)]  # of 900 × 1600 at strides 32, 64, 128: no size is half of another


def maps(count=2, seed=0, channels=CHANNELS):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, c, *size, generator=random) for c, size in zip(channels, SIZES, strict=False)]


def fpn():
    torch.manual_seed(0)
    return FPN(CHANNELS, OUT, extra_levels=2)


def finest():
    torch.manual_seed(0)
    return FinestFPN(CHANNELS, OUT)


def concat():
    torch.manual_seed(0)
    return ConcatFPN(CHANNELS, OUT)


NECKS = pytest.mark.parametrize("make", [fpn, finest, concat])


def nearest(x, size):
    """Nearest upsampling by index: output cell i shows input cell ⌊i · n_in / n_out⌋."""
    rows, columns = (torch.arange(n) * m // n for n, m in zip(size, x.shape[-2:], strict=True))
    return x[..., rows[:, None], columns]


def test_fpn_gives_a_level_for_each_map_and_halves_for_more():
    assert [x.shape for x in fpn()(maps())] == [(2, OUT, *size) for size in [*SIZES, (4, 7), (2, 4)]]
    assert len(FPN(CHANNELS, OUT)(maps())) == 3


def test_fpn_sums_what_lies_above_and_smooths_it():
    neck, inputs = fpn(), maps()
    c = [
        torch.einsum("oi,bihw->bohw", layer.weight[:, :, 0, 0], x) + layer.bias[:, None, None]
        for layer, x in zip(neck.top_down.laterals, inputs, strict=True)
    ]
    p2 = c[2]
    p1 = c[1] + nearest(p2, SIZES[1])
    p0 = c[0] + nearest(p1, SIZES[0])
    expected = [
        F.conv2d(p, layer.weight, layer.bias, padding=1) for layer, p in zip(neck.outputs, (p0, p1, p2), strict=True)
    ]
    for layer in neck.extras:
        x = expected[-1] if len(expected) == 3 else expected[-1].clamp(min=0)
        expected.append(F.conv2d(x, layer.weight, layer.bias, stride=2, padding=1))
    for found, wanted in zip(neck(inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_the_finest_fpn_is_an_fpns_first_level():
    whole, alone = fpn(), finest()
    alone.top_down.load_state_dict(whole.top_down.state_dict())
    alone.output.load_state_dict(whole.outputs[0].state_dict())
    assert torch.equal(alone(maps())[0], whole(maps())[0])


def test_the_concat_fpn_lets_the_coarsest_map_reach_the_finest_cell_where_it_lies():
    neck = concat().eval()
    inputs = maps(1)
    moved = [*inputs[:2], inputs[2].clone()]
    moved[2][..., 3, 9] += 5.0
    changed = (neck(moved)[0] - neck(inputs)[0]).abs().sum(1)[0]
    rows, columns = changed.nonzero().float().quantile(0.5, dim=0)
    assert abs(rows + 0.5 - 3.5 / 8 * 29) < 1 and abs(columns + 0.5 - 9.5 / 13 * 50) < 1
    assert changed[25:].max() == 0 and changed[:, :20].max() == 0


def test_the_concat_fpn_joins_by_concatenation_coarse_to_fine():
    neck, (x0, x1, x2) = concat().eval(), maps()

    def brick(layers, x):
        conv, norm, _ = layers
        x = F.conv2d(x, conv.weight, padding=conv.weight.shape[-1] // 2)
        return (x / (1 + norm.eps) ** 0.5).clamp(min=0)  # a fresh norm in eval

    def bilinear(x, size):
        """Cell centres at i + 0.5, edges repeated."""
        for dim, n in ((2, size[0]), (3, size[1])):
            at = ((torch.arange(n) + 0.5) * x.shape[dim] / n - 0.5).clamp(0, x.shape[dim] - 1)
            low = at.floor().long()
            high, share = (low + 1).clamp(max=x.shape[dim] - 1), at - low
            share = share.view(-1, 1) if dim == 2 else share
            x = x.index_select(dim, low) * (1 - share) + x.index_select(dim, high) * share
        return x

    middle = torch.cat([x1, bilinear(x2, SIZES[1])], dim=1)
    for layers in neck.joins[1]:
        middle = brick(layers, middle)
    expected = torch.cat([x0, bilinear(middle, SIZES[0])], dim=1)
    for layers in neck.joins[0]:
        expected = brick(layers, expected)
    torch.testing.assert_close(neck([x0, x1, x2])[0], expected, atol=1e-5, rtol=1e-4)


def test_the_necks_have_the_published_numbers_of_weights():
    with torch.device("meta"):
        bevformer, bevdet, bevfusion = (
            FPN([512, 1024, 2048], 256, extra_levels=1),
            FinestFPN([1024, 2048], 256),
            ConcatFPN([192, 384, 768], 256),
        )
    square = 256 * 256
    for neck, expected in (
        (bevformer, (512 + 1024 + 2048) * 256 + 4 * 9 * square + 7 * 256),
        (bevdet, (1024 + 2048) * 256 + 9 * square + 3 * 256),
        (bevfusion, (384 + 768 + 192 + 256) * 256 + 2 * 9 * square + 4 * 2 * 256),
    ):
        assert sum(p.numel() for p in neck.parameters()) == expected


def test_an_fpn_begins_with_xaviers_variance_and_no_bias():
    neck = FPN([64, 128], 96)
    for layer in (*neck.top_down.laterals, *neck.outputs):
        fans = layer.weight[0].numel() + layer.weight[:, 0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.05) and not layer.bias.any()


@NECKS
def test_every_weight_learns(make):
    neck = make()
    sum(x.square().mean() for x in neck(maps())).backward()
    assert {name for name, p in neck.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0} == set()


@NECKS
@torch.no_grad()
def test_a_batch_equals_its_images_one_by_one(make):
    neck = make().eval()
    for i in range(2):
        alone = neck([x[i : i + 1] for x in maps()])
        for found, expected in zip(alone, neck(maps()), strict=True):
            torch.testing.assert_close(found[0], expected[i], atol=1e-5, rtol=1e-4)


@NECKS
@torch.no_grad()
def test_bfloat16_says_nearly_the_same(make):
    neck = make().eval()
    with torch.autocast("cpu", torch.bfloat16):
        low = neck(maps())
    for found, exact in zip(low, neck(maps()), strict=True):
        assert (found.float() - exact).abs().max() < 0.03 * exact.abs().max()


@NECKS
def test_it_is_exported(make):
    neck = make().eval()
    exported = torch.export.export(neck, (maps(),), strict=False).module()
    for found, expected in zip(exported(maps(seed=3)), neck(maps(seed=3)), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_single_map_is_enough_for_an_fpn_and_a_missing_one_is_an_error():
    assert FinestFPN([6], OUT)(maps()[:1])[0].shape == (2, OUT, *SIZES[0])
    with pytest.raises(ValueError):
        finest()(maps()[:2])

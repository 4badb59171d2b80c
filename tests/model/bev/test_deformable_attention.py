"""Deformable attention against its equation in loops, and against offsets whose result is known by hand."""

import itertools
import math

import pytest
import torch

from vexkd_model.bev.deformable_attention import DeformableAttention, cell_centres


def random_weights(module, seed=0):
    """Draw every weight: with initial zeros, a part that is left out would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module


def reader(channels, offset, heads=1, points=1):
    """Make an attention that only reads: identity projections, the same offset (x, y) for every key of every query."""
    module = DeformableAttention(channels, heads, points)
    with torch.no_grad():
        module.value_proj.weight.copy_(torch.eye(channels)[..., None, None])
        module.output_proj.weight.copy_(torch.eye(channels))
        module.sampling_offsets.bias.copy_(torch.tensor(offset).repeat(heads * points))
    return module.eval()


def read_own_cells(module, x):
    """Read a map (B, C, Y, X) from the centre of every cell, with queries of zeros; the result as a map."""
    query = torch.zeros(len(x), x.shape[2] * x.shape[3], x.shape[1])
    out = module(query, cell_centres(*x.shape[2:]), [x])
    return out.transpose(1, 2).unflatten(2, x.shape[2:])


def bilinear(x, column, row):
    """Interpolate x (C, Y, X) at a position in cells, whose centres are at + 0.5; zero outside."""
    value = torch.zeros(x.shape[0], dtype=x.dtype)
    for j, i in itertools.product(range(x.shape[1]), range(x.shape[2])):
        share = max(0.0, 1 - abs(column - i - 0.5)) * max(0.0, 1 - abs(row - j - 0.5))
        value += share * x[:, j, i]
    return value


def equation(module, query, reference, maps):
    """Evaluate Σ_heads W_i Σ_keys A_ij · W'_i x(p + Δp_ij) for one query (C,), term by term."""
    heads, levels, points = module.heads, module.levels, module.points
    width = module.output_proj.in_features // heads
    offsets = (module.sampling_offsets.weight @ query + module.sampling_offsets.bias).view(heads, levels, points, 2)
    logits = (module.attention_weights.weight @ query + module.attention_weights.bias).view(heads, levels, points)
    result = module.output_proj.bias.clone()
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        total = sum(math.exp(logit) for logit in logits[head].flatten())
        for level, point in itertools.product(range(levels), range(points)):
            x = maps[level]
            projected = torch.einsum("oc,cyx->oyx", module.value_proj.weight[own, :, 0, 0], x)
            projected = projected + module.value_proj.bias[own, None, None]
            column, row = reference[point % len(reference)] * torch.tensor([x.shape[2], x.shape[1]])
            column, row = column + offsets[head, level, point, 0], row + offsets[head, level, point, 1]
            key = bilinear(projected, float(column), float(row))
            result += math.exp(logits[head, level, point]) / total * module.output_proj.weight[:, own] @ key
    return result


@pytest.mark.parametrize(("levels", "references"), [([(4, 5)], 1), ([(5, 4), (3, 2)], 2)])
def test_it_is_the_published_equation(levels, references):
    torch.manual_seed(0)
    module = DeformableAttention(4, 2, 4, len(levels), query_channels=6, value_channels=3).double()
    random_weights(module)
    query = torch.randn(2, 7, 6, dtype=torch.float64)
    reference = torch.rand(2, 7, references, 2, dtype=torch.float64) * 1.4 - 0.2  # some outside the map
    maps = [torch.randn(2, 3, *size, dtype=torch.float64) for size in levels]
    with torch.no_grad():
        out = module(query, reference, maps)
        for b, q in itertools.product(range(2), range(7)):
            expected = equation(module, query[b, q], reference[b, q], [x[b] for x in maps])
            torch.testing.assert_close(out[b, q], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("right", "up"), [(0, 0), (1, 0), (-2, 0), (0, 1), (3, -2), (6, 0), (10**4, 10**4)])
def test_an_offset_of_whole_cells_reads_those_neighbours_and_zero_beyond_the_border(right, up):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 6)
    expected = torch.zeros_like(x)
    for j, i in itertools.product(range(5), range(6)):
        if 0 <= j + up < 5 and 0 <= i + right < 6:
            expected[:, :, j, i] = x[:, :, j + up, i + right]
    out = read_own_cells(reader(3, [float(right), float(up)]), x)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def test_an_offset_is_counted_in_cells_of_the_map_that_is_read():
    x, fine = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 8, 12)
    x[0, 0, 1, 2] = fine[0, 0, 4, 6] = 1.0
    middle = torch.tensor([0.5, 0.5]).view(1, 1, 1, 2)  # the corner (1.5, 1) of the coarse map, (6, 4) of the fine one
    for image, offset in ((x, [1.0, 0.5]), (fine, [0.5, 0.5])):
        assert reader(1, offset)(torch.zeros(1, 1, 1), middle, [image]).item() == pytest.approx(1.0, abs=1e-5)


def test_heads_start_on_a_ring_and_their_points_one_cell_further_each():
    module = DeformableAttention(8, 8, 2, levels=3)
    ring = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    starts = module.sampling_offsets.bias.view(8, 3, 2, 2)
    for head, level, point in itertools.product(range(8), range(3), range(2)):
        expected = torch.tensor(ring[head], dtype=torch.float32) * (point + 1)
        torch.testing.assert_close(starts[head, level, point], expected, atol=1e-5, rtol=0)


def test_a_new_module_reads_its_ring_with_equal_weights_whatever_the_query():
    torch.manual_seed(0)
    module, x = DeformableAttention(4, 4, 1), torch.zeros(1, 4, 5, 5)
    with torch.no_grad():
        module.value_proj.weight.copy_(torch.eye(4)[..., None, None])
        module.output_proj.weight.copy_(torch.eye(4))
    for channel, (row, column) in enumerate([(2, 3), (3, 2), (2, 1), (1, 2)]):  # right, up, left, down of the middle
        x[0, channel, row, column] = 1.0
    out = module(torch.randn(1, 25, 4) * 100, cell_centres(5, 5), [x])[0]
    torch.testing.assert_close(out[12], torch.ones(4), atol=1e-5, rtol=0)


def test_gradients_of_the_module_agree_with_finite_differences():
    torch.manual_seed(0)
    module = random_weights(DeformableAttention(4, 2, 2, 2, query_channels=3).double())
    inputs = [
        torch.randn(1, 4, 3, dtype=torch.float64),
        torch.rand(1, 4, 2, 2, dtype=torch.float64),
        torch.randn(1, 4, 3, 4, dtype=torch.float64),
        torch.randn(1, 4, 2, 3, dtype=torch.float64),
    ]
    inputs = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(lambda query, reference, *maps: module(query, reference, maps), inputs)


def test_gradients_reach_every_parameter_of_a_new_module():
    torch.manual_seed(0)
    module = DeformableAttention(8, 2, 4, query_channels=16)
    (module(torch.randn(2, 20, 16), cell_centres(4, 5), [torch.randn(2, 8, 4, 5)]) ** 2).sum().backward()
    assert [name for name, parameter in module.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_half_precision_reads_at_the_same_places():
    x = torch.zeros(1, 1, 2, 400)  # in bfloat16, positions past 256 are even numbers
    x[..., torch.arange(400) % 3 == 0] = 1.0
    with torch.autocast("cpu", torch.bfloat16):
        out = read_own_cells(reader(1, [1.0, 0.0]), x)
    torch.testing.assert_close(out.float()[..., :-1], x[..., 1:], atol=0.01, rtol=0)


def test_a_batch_equals_its_samples_one_by_one():
    torch.manual_seed(0)
    module = random_weights(DeformableAttention(8, 4, 2, 2))
    query, reference = torch.randn(3, 9, 8), torch.rand(3, 9, 1, 2)
    maps = [torch.randn(3, 8, 5, 6), torch.randn(3, 8, 3, 3)]
    together = module(query, reference, maps)
    for b in range(3):
        own = slice(b, b + 1)
        alone = module(query[own], reference[own], [x[own] for x in maps])
        torch.testing.assert_close(together[own], alone, atol=1e-5, rtol=1e-5)


def test_an_exported_program_says_the_same():
    module = random_weights(DeformableAttention(8, 2, 4, query_channels=4)).eval()
    args = (torch.randn(2, 12, 4), cell_centres(3, 4), [torch.randn(2, 8, 3, 4)])
    torch.testing.assert_close(torch.export.export(module, args, strict=False).module()(*args), module(*args))


def test_channels_that_do_not_divide_among_the_heads_are_refused():
    with pytest.raises(ValueError, match="10 channels do not divide among 4 heads"):
        DeformableAttention(10, 4, 4)


def test_a_missing_level_is_refused():
    with pytest.raises(ValueError):
        DeformableAttention(4, 2, 2, levels=2)(torch.zeros(1, 1, 4), cell_centres(1, 1), [torch.zeros(1, 4, 3, 3)])

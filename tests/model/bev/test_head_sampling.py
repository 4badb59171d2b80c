"""Both ways to sample for deformable attention: equal to one another, and to finite differences."""

import pytest
import torch

from vexkd_model.bev.head_sampling import sample_by_grid, sample_by_rows, sample_heads
from vexkd_model.layers import reference_operators

WAYS = [sample_by_grid, sample_by_rows]


def drawn(batch=2, heads=3, channels=4, size=(5, 7), queries=11, points=2, dtype=torch.float32):
    """Draw a map, positions in and around it, and weights."""
    torch.manual_seed(0)
    value = torch.randn(batch, heads, channels, *size, dtype=dtype)
    positions = torch.rand(batch, heads, queries, points, 2, dtype=dtype) * 12 - 2.5
    weights = torch.randn(batch, heads, queries, points, dtype=dtype)
    return [part.requires_grad_() for part in (value, positions, weights)]


def reached(node):
    """Names of all functions behind a gradient."""
    return node.name() + "".join(reached(other) for other, _ in node.next_functions if other is not None)


@pytest.mark.parametrize("way", WAYS)
def test_gradients_agree_with_finite_differences(way):
    assert torch.autograd.gradcheck(way, drawn(2, 2, 3, (4, 5), 6, 3, dtype=torch.float64))


@pytest.mark.parametrize("heads_first", [True, False])
def test_sums_of_rows_and_their_gradients_are_those_of_grid_sample(heads_first):
    value, positions, weights = drawn()
    if not heads_first:  # the layout in which the module has them
        value = value.detach().permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2).requires_grad_()
        positions = positions.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    by_grid, by_rows = (way(value, positions, weights) for way in WAYS)
    torch.testing.assert_close(by_rows, by_grid, atol=1e-5, rtol=1e-5)
    towards = torch.randn_like(by_grid)
    of_grid, of_rows = (torch.autograd.grad(out, [value, positions, weights], towards) for out in (by_grid, by_rows))
    for ours, theirs in zip(of_rows, of_grid, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_cpu_sums_rows_unless_narrow_heads_are_trained_and_an_exported_program_calls_grid_sample():
    value, positions, weights = (part.detach() for part in drawn())
    assert torch.equal(sample_heads(value, positions, weights), sample_by_rows(value, positions, weights))
    assert "RowSums" in reached(sample_heads(*drawn(channels=32)).grad_fn)
    assert "RowSums" not in reached(sample_heads(*drawn()).grad_fn)
    with reference_operators():
        assert torch.equal(sample_heads(value, positions, weights), sample_by_grid(value, positions, weights))

    class Sampling(torch.nn.Module):
        def forward(self, *args):
            return sample_heads(*args)

    program = torch.export.export(Sampling(), (value, positions, weights), strict=False)
    assert any("grid_sampler" in str(node.target) for node in program.graph.nodes)
    assert not any("embedding_bag" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize(
    ("far", "read"), [(1e9, 0.0), (-1e30, 0.0), (float("inf"), float("nan")), (float("nan"), float("nan"))]
)
def test_a_far_position_reads_zero_and_one_that_is_not_finite_nan(far, read):
    value, positions, weights = (part.detach() for part in drawn())
    positions[0, 1, 3, :, 0] = far
    for way in WAYS:
        expected = torch.full((4,), read)
        torch.testing.assert_close(way(value, positions, weights)[0, 1, :, 3], expected, equal_nan=True)


def test_a_map_without_queries_gives_none():
    value, positions, weights = (part.detach() for part in drawn())
    assert sample_by_rows(value, positions[:, :, :0], weights[:, :, :0]).shape == (2, 3, 4, 0)

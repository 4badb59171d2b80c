"""The pillar encoder against NumPy: which cell, which features, which maximum."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vexkd_model.lidar.pillars import POINT_SCALE, PillarEncoder, _ScatterMax
from vexkd_model.types import BevGrid

GRID = BevGrid(-8.0, 8.0, -4.0, 4.0, 2.0)  # 4 rows along y, 8 columns along x


def encoder(pillar=2.0, grid=GRID):
    torch.manual_seed(0)
    return PillarEncoder(grid, pillar, -3.0, 2.0, 6, 5, stem_layers=2).eval()


def bare_encoder():
    """Make an encoder without learnt layers: only the decoration of points and the maximum of each pillar remain."""
    bare = encoder()
    bare.point_net, bare.stem = torch.nn.Identity(), torch.nn.Identity()
    return bare


def cloud(count, seed=0):
    random = np.random.default_rng(seed)
    low, high = [-8, -4, -3, 0, 0], [8, 4, 2, 255, 0.5]
    return torch.from_numpy(random.uniform(low, high, (count, 5)).astype(np.float32))


def encode(module, *clouds):
    points = torch.cat(clouds)
    sample = torch.cat([torch.full((len(c),), i) for i, c in enumerate(clouds)])
    with torch.no_grad():
        return module(points, sample, len(clouds))


@settings(max_examples=100, deadline=None)
@given(st.floats(-12, 12, width=32), st.floats(-6, 6, width=32), st.floats(-5, 4, width=32))
def test_a_point_marks_the_cell_where_it_stands_and_no_other(x, y, z):
    assume(all(abs(value - round(value)) > 1e-5 or value == round(value) for value in (x, y)))  # float32 at a border
    canvas = encode(bare_encoder(), torch.tensor([[x, y, z, 255.0, 0.0]]))[0]
    marked = np.argwhere(canvas[3].numpy() > 0).tolist()  # channel 3 is the intensity
    column, row = int(np.floor((x + 8.0) / 2.0)), int(np.floor((y + 4.0) / 2.0))
    inside = 0 <= column < 8 and 0 <= row < 4 and -3.0 <= z < 2.0
    assert marked == ([[row, column]] if inside else [])


def test_every_pillar_holds_the_maximum_over_its_decorated_points():
    points = cloud(400)
    expected = np.zeros((10, 4, 8))
    columns, rows = (np.floor((points[:, i].numpy() + m) / 2.0).astype(int) for i, m in ((0, 8.0), (1, 4.0)))
    for row in range(4):
        for column in range(8):
            own = points.numpy().astype(np.float64)[(rows == row) & (columns == column)]
            if not len(own):
                continue
            centre = np.array([-8.0 + (column + 0.5) * 2.0, -4.0 + (row + 0.5) * 2.0])
            features = np.hstack([own * POINT_SCALE, own[:, :3] - own[:, :3].mean(axis=0), (own[:, :2] - centre) / 2.0])
            expected[:, row, column] = np.maximum(features.max(axis=0), 0.0)
    np.testing.assert_allclose(encode(bare_encoder(), points)[0].numpy(), expected, atol=1e-5)


def test_the_order_of_points_does_not_matter():
    points = cloud(500)
    shuffled = points[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(encode(encoder(), points), encode(encoder(), shuffled), atol=1e-5, rtol=1e-5)


def test_a_batch_equals_its_samples_one_by_one():
    clouds = [cloud(300, 1), cloud(0), cloud(20, 2)]
    together = encode(encoder(), *clouds)
    for i, alone in enumerate(clouds):
        torch.testing.assert_close(together[i], encode(encoder(), alone)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "odd",
    [
        [9.0, 0, 0],
        [0, -4.01, 0],
        [0, 0, 2.5],
        [0, 0, -3.5],
        [np.nan, 0, 0],
        [0, np.nan, 0],
        [0, 0, np.nan],
        [np.inf, 0, 0],
        [0, -np.inf, 0],
        [1e30, 0, 0],
    ],
)
def test_points_out_of_range_or_not_finite_change_nothing(odd):
    points, stranger = cloud(100), torch.tensor([[*odd, 10.0, 0.0]], dtype=torch.float32)
    torch.testing.assert_close(encode(encoder(), torch.cat([points, stranger])), encode(encoder(), points))


def test_an_empty_cloud_gives_a_finite_map():
    out = encode(encoder(), cloud(0))
    assert out.shape == (1, 5, 4, 8) and out.isfinite().all()


@pytest.mark.parametrize("pillar", [2.0, 1.0, 2 / 3])
def test_finer_pillars_still_give_the_models_grid(pillar):
    assert encode(encoder(pillar), cloud(50)).shape == (1, 5, 4, 8)


def test_gradients_reach_the_point_network():
    module = encoder().train()
    module(cloud(200), torch.zeros(200, dtype=torch.long), 1).sum().backward()
    assert module.point_net[0].weight.grad.abs().sum() > 0


def test_points_of_each_age_group_are_pooled_by_themselves():
    torch.manual_seed(0)
    grouped = PillarEncoder(GRID, 2.0, -3.0, 2.0, 6, 5, stem_layers=1, age_groups=2, max_age=0.4)
    grouped.point_net, grouped.stem = torch.nn.Identity(), torch.nn.Identity()
    points = cloud(400)
    points[:, 4] = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])[torch.arange(400) % 5]  # 0.2 s begins the older half
    canvas, per_group = encode(grouped, points)[0], encode(bare_encoder(), points)[0].shape[0]
    assert canvas.shape[0] == 2 * per_group
    intensity = 3
    for group, own in enumerate((points[:, 4] < 0.2, points[:, 4] >= 0.2)):
        alone = encode(bare_encoder(), points[own])[0][intensity]
        torch.testing.assert_close(canvas[group * per_group + intensity], alone)


def test_without_an_older_sweep_its_groups_are_empty():
    grouped = PillarEncoder(GRID, 2.0, -3.0, 2.0, 6, 5, stem_layers=1, age_groups=3, max_age=0.4)
    grouped.stem = torch.nn.Identity()
    points = cloud(100)
    points[:, 4] = 0.0
    canvas = encode(grouped.eval(), points)[0]
    assert canvas[:6].abs().sum() > 0 and canvas[6:].abs().sum() == 0


def test_the_maximum_has_the_gradient_of_pytorchs_own():
    torch.manual_seed(0)
    features, place = torch.rand(300, 4, dtype=torch.float64), torch.randint(0, 20, (300,))
    weights, gradients = torch.rand(20, 4, dtype=torch.float64), []
    for pooled in (
        lambda x: _ScatterMax.apply(x, place, 20),
        lambda x: x.new_zeros(20, 4).scatter_reduce(0, place[:, None].expand_as(x), x, "amax"),
    ):
        x = features.clone().requires_grad_()
        (pooled(x) * weights).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_a_sensor_of_intensities_up_to_1_is_encoded_like_one_up_to_255():
    torch.manual_seed(0)
    usual = PillarEncoder(GRID, 2.0, -3.0, 2.0, 6, 5, stem_layers=1).eval()
    other = PillarEncoder(GRID, 2.0, -3.0, 2.0, 6, 5, stem_layers=1, intensity_max=1.0).eval()
    other.load_state_dict(usual.state_dict())
    points = cloud(300)
    points[:, 3] = torch.rand(300) * 255
    scaled = points.clone()
    scaled[:, 3] /= 255
    assert torch.allclose(encode(other, scaled), encode(usual, points), atol=1e-5)
    assert not torch.allclose(encode(usual, scaled), encode(usual, points), atol=1e-2)

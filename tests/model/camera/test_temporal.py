"""Past maps in the present base_link: static objects stay in their cells."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from vexkd_model.camera.temporal import FrameEncoder, TemporalFusion, align
from vexkd_model.types import BevGrid

GRID = BevGrid(-8.0, 16.0, -6.0, 6.0, 0.5)  # 24 rows along y, 48 columns along x
ROWS, COLUMNS = GRID.shape


def pose(x, y, yaw, z=0.0, scale=1.0, mirror=False):
    """float64 (4, 4): world_from_base of a vehicle at (x, y) that heads along yaw."""
    matrix = np.eye(4)
    matrix[:2, :2] = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) * scale
    matrix[:2, :2] = matrix[:2, :2] @ np.diag([1, -1 if mirror else 1])
    matrix[:3, 3] = x, y, z
    return matrix


def between(then, now):
    return torch.tensor(np.linalg.inv(now) @ then).float()[None]


def some_map(frames=1, channels=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(frames, channels, ROWS, COLUMNS))).float()


def blob(place, sigma=0.9):
    """(1, 1, Y, X): a Gaussian hill about (x, y) of base_link [m]."""
    y, x = GRID.centres()
    return torch.from_numpy(np.exp(-((x - place[0]) ** 2 + (y[:, None] - place[1]) ** 2) / (2 * sigma**2))).float()[
        None, None
    ]


def hilltop(bev):
    """(x, y) [m]: the centre of mass."""
    y, x = GRID.centres()
    weight = bev[0, 0].double().numpy()
    return np.array([(weight * x).sum(), (weight * y[:, None]).sum()]) / weight.sum()


def test_a_vehicle_that_stands_keeps_its_map():
    bev = some_map()
    torch.testing.assert_close(align(bev, torch.eye(4)[None], GRID), bev, atol=5e-5, rtol=0)


def test_driving_two_metres_ahead_moves_the_world_four_cells_back_and_shows_nothing_new():
    bev = some_map()
    moved = align(bev, between(pose(0, 0, 0), pose(2, 0, 0)), GRID)
    torch.testing.assert_close(moved[..., :-4], bev[..., 4:], atol=5e-5, rtol=0)
    torch.testing.assert_close(moved[..., -4:], torch.zeros_like(moved[..., -4:]), atol=5e-5, rtol=0)


def test_moving_to_the_left_moves_the_world_to_the_right():
    bev = some_map()
    moved = align(bev, between(pose(0, 0, 0), pose(0, 1, 0)), GRID)
    torch.testing.assert_close(moved[:, :, :-2], bev[:, :, 2:], atol=5e-5, rtol=0)
    assert moved[:, :, -2:].abs().max() < 5e-5


def test_after_a_left_turn_what_was_ahead_is_on_the_right():
    aligned = align(blob((3, 0)), between(pose(0, 0, 0), pose(0, 0, np.pi / 2)), GRID)
    np.testing.assert_allclose(hilltop(aligned), [0, -3], atol=0.02)


@settings(max_examples=60)
@given(
    *[st.floats(-100, 100)] * 2,
    st.floats(-3.1, 3.1),
    *[st.floats(-2, 2)] * 2,
    st.floats(-0.5, 0.5),
    st.floats(2, 6),
    st.floats(-1.5, 1.5),
)
def test_an_object_that_stands_still_in_the_world_is_found_where_it_stands_now(x, y, yaw, dx, dy, turn, ahead, aside):
    then, now = pose(x, y, yaw), pose(x, y, yaw) @ pose(dx, dy, turn, z=0.1)
    stands = then @ [ahead, aside, 0, 1]
    aligned = align(blob((ahead, aside), sigma=0.5), between(then, now), GRID)
    expected = (np.linalg.inv(now) @ stands)[:2]
    if np.abs(expected[1]) < 4 and -6 < expected[0] < 14:
        np.testing.assert_allclose(hilltop(aligned), expected, atol=0.05)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_map_is_scipys_bilinear_one_also_between_augmented_worlds(seed, mirror):
    random = np.random.default_rng(seed)
    bev = some_map(seed=seed)
    then = pose(*random.uniform(-3, 3, 2), random.uniform(-3, 3))
    now = pose(*random.uniform(-3, 3, 2), random.uniform(-3, 3), 0.0, random.uniform(0.9, 1.1), mirror)
    y, x = GRID.centres()
    here = np.stack(
        [np.tile(x, (ROWS, 1)), np.tile(y[:, None], (1, COLUMNS)), np.zeros(GRID.shape), np.ones(GRID.shape)]
    )
    there = np.einsum("ij,jyx->iyx", np.linalg.inv(then) @ now, here)
    cells = (there[1] - GRID.y_min) / GRID.cell - 0.5, (there[0] - GRID.x_min) / GRID.cell - 0.5
    expected = [map_coordinates(channel, cells, order=1, mode="grid-constant") for channel in bev[0].double().numpy()]
    found = align(bev, between(then, now), GRID)
    assert found[0].abs().mean() > 0.1
    np.testing.assert_allclose(found[0].numpy(), expected, atol=3e-4)


def test_each_frame_of_a_batch_moves_by_its_own_pose():
    maps, poses = some_map(3), [between(pose(0, 0, 0), pose(1, i, 0.2 * i)) for i in range(3)]
    together = align(maps, torch.cat(poses), GRID)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], align(maps[i : i + 1], poses[i], GRID))


def test_places_are_exact_under_autocast_and_gradients_go_back_to_the_past():
    bev, moved = some_map().requires_grad_(), between(pose(0, 0, 0), pose(1.3, 0.4, 0.1))
    expected = align(bev, moved, GRID)
    with torch.autocast("cpu", torch.bfloat16):
        found = align(bev, moved, GRID)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert align(bev.bfloat16(), moved, GRID).dtype == torch.float32
    found.sum().backward()
    # the middle of the old map lies within the new one, its far left corner behind it
    assert bev.grad[0, :, 12, 24].min() > 0.9 and bev.grad[0, 0, :, 0].abs().sum() == 0


def test_maps_stand_side_by_side_the_present_one_first_and_then_from_newest_to_oldest():
    now, newer, older = (torch.full((1, 2, 3, 3), value) for value in (1.0, 2.0, 3.0))
    fusion = TemporalFusion(2, 2)
    fused = fusion(now, [newer, older], torch.ones(1, 2, dtype=torch.bool))
    assert fusion.channels == fused.shape[1] == 6
    assert fused[0, :, 1, 1].tolist() == [1, 1, 2, 2, 3, 3]


def test_where_a_past_frame_is_absent_stands_the_present_one():
    now, newer, older = (torch.full((3, 1, 2, 2), value) for value in (1.0, 2.0, 3.0))
    older[:2] = torch.nan
    present = torch.tensor([[True, False], [False, False], [False, True]])
    fused = TemporalFusion(1, 2)(now, [newer, older], present)
    assert fused[..., 0, 0].tolist() == [[1, 2, 1], [1, 1, 1], [1, 1, 3]]


def test_a_student_without_history_keeps_its_map():
    now = some_map()
    assert torch.equal(TemporalFusion(2, 0)(now, [], torch.zeros(1, 0, dtype=torch.bool)), now)


def test_another_number_of_past_maps_is_refused():
    with pytest.raises(ValueError, match="1 past maps were given to a fusion of 2"):
        TemporalFusion(2, 2)(some_map(), [some_map()], torch.ones(1, 1, dtype=torch.bool))


def test_each_frames_map_is_encoded_by_a_residual_block_whose_weights_all_learn():
    torch.manual_seed(0)
    encoder, bev = FrameEncoder(2), some_map(2)
    encoded = encoder(bev)
    assert encoded.shape == bev.shape and encoded.min() == 0
    encoded.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())
    encoder.eval()
    with torch.no_grad():
        encoder.layers[-1].weight.zero_()
    torch.testing.assert_close(encoder(bev), encoder.shortcut(bev).relu())


def test_encoding_aligning_and_fusing_are_exported():
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.fusion = FrameEncoder(2), TemporalFusion(2, 2)

        def forward(self, now, past, poses, present):
            aligned = [align(self.encoder(bev), poses[:, i], GRID) for i, bev in enumerate(past)]
            return self.fusion(self.encoder(now), aligned, present)

    poses = torch.stack([between(pose(0, 0, 0), pose(i, 0.3, 0.1 * i)) for i in (1, 2)], dim=1).expand(2, -1, -1, -1)
    arguments = some_map(2), (some_map(2, seed=1), some_map(2, seed=2)), poses, torch.tensor([[True, False]] * 2)
    whole = Whole().eval()
    exported = torch.export.export(whole, arguments, strict=False).module()
    other = *arguments[:3], torch.tensor([[True, True], [False, True]])
    for values in (arguments, other):
        torch.testing.assert_close(exported(*values), whole(*values))

"""Depth bins, depth images, targets and loss against loops in float64 and hand-computed values."""

import numpy as np
import pytest
import torch
from support.rig import AHEAD, SMALL_LENS, SMALL_SIZE, camera_batch, turned
from torch.nn import functional

from vexkd_model.camera.depth import NO_RETURN, DepthBins, depth_images, depth_loss, depth_targets
from vexkd_model.data.batch import CameraBatch
from vexkd_model.geometry.camera import NEAR_M, inside, project, projection


def clear_cloud(matrices, count, seed):
    """Points in all directions, none of which falls within rounding of a pixel's border in any of the cameras."""
    points = np.random.default_rng(seed).uniform([-12, -12, -1], [12, 12, 4], (count, 3)).astype(np.float32)
    clear = np.ones(count, bool)
    for matrix in matrices:
        pixels, depth = project(matrix, points)
        clear &= ~((np.abs(pixels - np.round(pixels)) < 1e-3).any(axis=1) | (np.abs(depth - NEAR_M) < 1e-3))
    return points[clear]


@pytest.mark.parametrize(
    ("bins", "count"), [(DepthBins(1, 60, 1), 59), (DepthBins(2, 58, 0.5), 112), (DepthBins(1, 60, 0.5), 118)]
)
def test_published_ranges_have_their_number_of_bins_each_lifted_to_its_middle(bins, count):
    edges = np.linspace(bins.start, bins.stop, count + 1)
    assert bins.count == count
    np.testing.assert_allclose(bins.centres().numpy(), (edges[:-1] + edges[1:]) / 2, rtol=1e-6)


def test_bevdets_samples_are_the_middles_of_bins_half_a_metre_nearer():
    assert DepthBins(0.5, 59.5, 1).centres().tolist() == list(range(1, 60))


@pytest.mark.parametrize("wrong", [(1, 60, 0.7), (5, 5, 1), (1, 2, 1), (-1, 9, 1), (9, 1, 1)])
def test_a_range_that_does_not_divide_into_bins_is_refused(wrong):
    with pytest.raises(ValueError, match="bins of"):
        DepthBins(*wrong)


def test_the_nearest_of_two_returns_in_a_pixel_counts_and_a_pixel_without_one_is_zero():
    points = torch.tensor([[20.0, 0.2, 1.4, 9, 0], [10, 0.1, 1.45, 9, 0], [8, -2, 1.5, 9, 0], [-5, 0, 1.5, 9, 0]])
    image = depth_images(points, torch.zeros(4, dtype=torch.long), camera_batch([[AHEAD]]))[0, 0]
    # column 16 − 20 · y / x, row 8 − 20 · (z − 1.5) / x
    assert image[8, 15] == 10 and image[8, 21] == 8 and (image > 0).sum() == 2


def test_depth_images_are_those_of_a_loop_over_all_points_and_cameras():
    scaled = np.diag([0.95, -0.95, 0.95, 1.0]) @ turned(0.3)
    bases = [[AHEAD, turned(2.1) @ AHEAD, turned(-2.1) @ AHEAD], [scaled @ AHEAD, scaled @ turned(1) @ AHEAD, AHEAD]]
    present = [[True, False, True], [True, True, True]]
    matrices = [[projection(SMALL_LENS, base) for base in row] for row in bases]
    clouds = [clear_cloud(matrices[0], 1500, 0), clear_cloud(matrices[1], 900, 1)]
    sample = torch.tensor([0] * len(clouds[0]) + [1] * len(clouds[1]))
    shuffled = torch.randperm(len(sample), generator=torch.Generator().manual_seed(0))
    points = torch.from_numpy(np.concatenate(clouds))
    with torch.autocast("cpu", torch.bfloat16):
        found = depth_images(points[shuffled], sample[shuffled], camera_batch(bases, present=present))

    expected, filled = np.zeros((2, 3, *SMALL_SIZE[::-1])), 0
    for frame, cloud in enumerate(clouds):
        for camera in range(3):
            pixels, depth = project(matrices[frame][camera], cloud)
            for (u, v), metres, seen in zip(pixels, depth, inside(pixels, SMALL_SIZE), strict=True):
                if seen and present[frame][camera]:
                    old = expected[frame, camera, int(v), int(u)]
                    expected[frame, camera, int(v), int(u)] = min(old, metres) if old else metres
                    filled += 1
    assert filled > 500 and found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_each_frame_of_a_batch_sees_its_own_points_only():
    batch = camera_batch([[AHEAD], [AHEAD], [AHEAD]])
    cloud = torch.from_numpy(clear_cloud([projection(SMALL_LENS, AHEAD)], 400, 2))
    images = depth_images(cloud, torch.full((len(cloud),), 1), batch)
    alone = depth_images(cloud, torch.zeros(len(cloud), dtype=torch.long), camera_batch([[AHEAD]]))
    assert not images[0].any() and not images[2].any() and alone.any()
    torch.testing.assert_close(images[1], alone[0])


def test_no_points_and_points_that_are_not_finite_leave_images_empty():
    odd = torch.tensor([[np.nan, 0, 1], [np.inf, 0, 1], [-np.inf, 0, 1], [5, np.nan, 1], [NEAR_M / 2, 0, 1.5]])
    for points in (torch.zeros(0, 5), odd.float()):
        images = depth_images(points, torch.zeros(len(points), dtype=torch.long), camera_batch([[AHEAD]]))
        assert images.shape == (1, 1, *SMALL_SIZE[::-1]) and not images.any()


def test_targets_are_the_bins_of_each_blocks_nearest_return():
    random = np.random.default_rng(3)
    depth = random.uniform(0, 14, (2, 3, 8, 12)) * (random.random((2, 3, 8, 12)) < 0.15)
    bins = DepthBins(2, 10, 0.5)
    found = depth_targets(torch.from_numpy(depth).float(), 4, bins)
    assert found.shape == (2, 3, 2, 3)
    for index in np.ndindex(2, 3, 2, 3):
        frame, camera, row, column = index
        block = depth[frame, camera, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        nearest = block[block > 0].min() if (block > 0).any() else np.inf
        expected = int((nearest - 2) / 0.5) if 2 <= nearest < 10 else NO_RETURN
        assert found[index] == expected
    assert (found == NO_RETURN).any() and (found >= 0).sum() > 10


def test_a_return_too_near_hides_the_block_behind_it():
    depth = torch.zeros(1, 1, 4, 4)
    depth[0, 0, 0, 0], depth[0, 0, 3, 3] = 1.0, 5.0
    assert depth_targets(depth, 4, DepthBins(2, 10, 1)).item() == NO_RETURN
    assert depth_targets(depth, 4, DepthBins(1, 10, 1)).item() == 0


def test_the_loss_is_binary_cross_entropy_over_the_cells_with_a_return():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 7, 4, 5) * 3, torch.randint(0, 7, (2, 3, 4, 5))
    target[torch.rand(target.shape) < 0.5] = NO_RETURN
    total, cells = 0.0, 0
    for index in (target != NO_RETURN).nonzero():
        frame, camera, row, column = index
        probability = logits[frame, camera, :, row, column].double().softmax(0)
        one_hot = functional.one_hot(target[tuple(index)], 7).double()
        total += functional.binary_cross_entropy(probability, one_hot, reduction="sum")
        cells += 1
    torch.testing.assert_close(depth_loss(logits, target, 3.0).double(), 3.0 * total / cells)


def test_a_confident_net_is_told_that_it_is_wrong():
    logits = torch.zeros(1, 1, 4, 1, 1)
    logits[0, 0, 2] = 200.0
    logits.requires_grad_()
    right, wrong = (depth_loss(logits, torch.full((1, 1, 1, 1), bin_), 1.0) for bin_ in (2, 0))
    assert 0 <= right < 1e-6
    # −log p of the bin that is true, 200, and −log(1 − p) of the one that was believed, 200 − log 3
    torch.testing.assert_close(wrong, torch.tensor(400 - np.log(3), dtype=torch.float32))
    wrong.backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 0, 2, 0, 0] > 0.5 and logits.grad[0, 0, 0, 0, 0] < -0.5


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_gradient_of_the_loss_is_that_of_finite_differences(scale):
    torch.manual_seed(1)
    logits, target = torch.randn(1, 1, 5, 1, 2) * scale, torch.tensor([[[[3, 1]]]])
    logits.requires_grad_()
    depth_loss(logits, target, 1.0).backward()

    def loss(values):  # in float64 and without logarithms of rounded numbers
        values = values.movedim(2, -1)[0, 0, 0]
        exponentials = (values - values.amax(-1, keepdim=True)).exp()
        others = torch.stack([exponentials[:, [j for j in range(5) if j != i]].sum(-1) for i in range(5)], dim=-1)
        yes = functional.one_hot(target.flatten(), 5).bool()
        return -(torch.where(yes, exponentials, others) / exponentials.sum(-1, keepdim=True)).log().sum() / 2

    exact = logits.detach().double().requires_grad_()
    loss(exact).backward()
    torch.testing.assert_close(logits.grad.double(), exact.grad, atol=1e-5, rtol=1e-4)


def test_a_batch_without_returns_has_no_loss():
    logits = torch.randn(1, 2, 6, 3, 3, requires_grad=True)
    loss = depth_loss(logits, torch.full((1, 2, 3, 3), NO_RETURN), 3.0)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_depth_images_and_targets_are_exported_for_any_number_of_points():
    class Targets(torch.nn.Module):
        def forward(self, points, sample, *of_cameras):
            return depth_targets(depth_images(points, sample, CameraBatch(*of_cameras)), 4, DepthBins(1, 13, 1))

    batch = camera_batch([[AHEAD, turned(2) @ AHEAD], [AHEAD, AHEAD]])
    tensors = (batch.images, batch.present, batch.image_from_camera, batch.image_from_stored, batch.base_from_camera)
    cloud, sample = torch.rand(300, 5) * 16 - 4, torch.arange(300) % 2
    points = {0: torch.export.Dim("points")}
    exported = torch.export.export(
        Targets().eval(), (cloud, sample, *tensors), strict=False, dynamic_shapes=(points, points, (None,) * 5)
    ).module()
    for count in (300, 50, 2):
        expected = Targets()(cloud[:count], sample[:count], *tensors)
        assert torch.equal(exported(cloud[:count], sample[:count], *tensors), expected)
    assert (Targets()(cloud, sample, *tensors) >= 0).sum() > 5

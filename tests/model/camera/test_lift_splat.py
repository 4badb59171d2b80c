"""Lift-splat against a loop over cameras, bins and pixels in float64, and on rigs like nuScenes'."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.rig import YAWS, camera_batch, lens, mounting

from vexkd_model.camera.depth import NO_RETURN, DepthBins, depth_images, depth_targets
from vexkd_model.camera.lift_splat import BevDownsample, LiftSplat
from vexkd_model.data.batch import CameraBatch
from vexkd_model.geometry.camera import project, projection
from vexkd_model.geometry.transforms import apply
from vexkd_model.types import BevGrid

GRID = BevGrid(-54.0, 54.0, -54.0, 54.0, 0.6)
WIDTH, HEIGHT, STRIDE = 704, 256, 16


def augmentation(yaw=0.0, scale=1.0, flip_x=False, flip_y=False):
    matrix = np.eye(4)
    flips = np.diag([-1 if flip_x else 1, -1 if flip_y else 1, 1])
    matrix[:3, :3] = scale * Rotation.from_euler("Z", yaw).as_matrix() @ flips
    return matrix


def street_rig(augment=None):
    """Six cameras like nuScenes', resized and cropped to 704 × 256, a little tilted: matrices and the batch of them."""
    resize = np.array([[0.44, 0, 0], [0, 0.44, -140], [0, 0, 1]])
    lenses = [
        np.array([[809.0 if i == 4 else 1266, 0, 816], [0, 809 if i == 4 else 1266, 491], [0, 0, 1]]) for i in range(6)
    ]
    images = [resize @ lens for lens in lenses]
    bases = [
        (np.eye(4) if augment is None else augment)
        @ mounting(yaw, 0.01 * i, -0.01 * i, (1.0 + 0.7 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5 + 0.01 * i))
        for i, yaw in enumerate(YAWS)
    ]
    return images, bases, camera_batch([bases], [images], (WIDTH, HEIGHT))


# Small enough for loops in Python, general enough for anything: a mirrored image, a skewed lens, mirrored worlds.
SMALL_GRID = BevGrid(-6.0, 9.0, -8.0, 4.0, 1.5)  # 8 rows along y, 10 columns along x
SMALL_BINS = DepthBins(1.0, 11.0, 2.0)
SMALL_Z = (-2.0, 3.0)
SMALL_SIZE = (3, 4)


def small_scene(seed):
    random = np.random.default_rng(seed)
    images, bases = [], []
    for _ in range(2):
        world = augmentation(random.uniform(-3, 3), random.uniform(0.9, 1.1), *(random.random(2) < 0.5))
        frame = []
        for _ in range(3):
            lens = np.array(
                [[random.uniform(6, 12), random.uniform(-1, 1), 8], [random.uniform(-1, 1), 9, 6], [0, 0, 1]]
            )
            images.append(np.diag([-1.0 if random.random() < 0.5 else 1.0, 1, 1]) @ lens)
            frame.append(
                world @ mounting(random.uniform(-3, 3), *random.uniform(-0.2, 0.2, 2), random.uniform(-1, 1, 3))
            )
        bases.append(frame)
    images = np.array(images).reshape(2, 3, 3, 3)
    images[:, :, 0, 2] += np.where(images[:, :, 0, 0] < 0, 8, 0)
    probability = random.random((2, 3, SMALL_BINS.count, *SMALL_SIZE))
    return images, np.array(bases), probability, random.normal(size=(2, 3, 2, *SMALL_SIZE))


def small_splat():
    return LiftSplat(SMALL_GRID, SMALL_BINS, 4, *SMALL_Z)


def standing(image, base, row, column, depth, stride):
    """Compute the point of base_link, float64 (3,), at this depth behind the middle of a feature cell."""
    pixel = np.array([(column + 0.5) * stride, (row + 0.5) * stride, 1.0])
    return (base @ np.append(np.linalg.inv(image) @ pixel * depth, 1.0))[:3]


def frustum_in_grid(images, bases, present=None):
    """List every ((frame, camera, bin, row, column), (cell along y, cell along x)) that stands in the small grid.

    Also how near any point came to a border in metres, where rounding may decide.
    """
    found, margin = [], np.inf
    for index in np.ndindex(2, 3, SMALL_BINS.count, *SMALL_SIZE):
        frame, camera, bin_, row, column = index
        depth = SMALL_BINS.start + (bin_ + 0.5) * SMALL_BINS.step
        x, y, z = standing(images[frame, camera], bases[frame, camera], row, column, depth, 4)
        in_cells = np.array([(y - SMALL_GRID.y_min) / SMALL_GRID.cell, (x - SMALL_GRID.x_min) / SMALL_GRID.cell])
        margin = min(margin, *np.abs(in_cells - np.round(in_cells)), *np.abs(z - np.array(SMALL_Z)))
        j, i = np.floor(in_cells).astype(int)
        if (present is None or present[frame][camera]) and 0 <= j < 8 and 0 <= i < 10 and SMALL_Z[0] <= z < SMALL_Z[1]:
            found.append((index, (j, i)))
    return found, margin


@pytest.mark.parametrize("present", [None, [[True, False, True], [False, True, True]]])
@pytest.mark.parametrize("seed", range(4))
def test_the_map_and_its_gradients_are_those_of_a_loop_in_float64(seed, present):
    images, bases, probability, context = small_scene(seed)
    pairs, margin = frustum_in_grid(images, bases, present)
    assert margin > 1e-5 and len(pairs) > 20
    weight = np.random.default_rng(seed).normal(size=(2, 2, 8, 10))
    expected, of_probability, of_context = np.zeros_like(weight), np.zeros_like(probability), np.zeros_like(context)
    for (frame, camera, bin_, row, column), (j, i) in pairs:
        p, features = probability[frame, camera, bin_, row, column], context[frame, camera, :, row, column]
        expected[frame, :, j, i] += p * features
        of_probability[frame, camera, bin_, row, column] = weight[frame, :, j, i] @ features
        of_context[frame, camera, :, row, column] += p * weight[frame, :, j, i]

    splat, cameras = small_splat(), camera_batch(bases, images, (16, 12), present)
    p, features = (torch.tensor(array, dtype=torch.float32, requires_grad=True) for array in (probability, context))
    found = splat(p, features, splat.geometry(cameras, SMALL_SIZE))
    (found * torch.from_numpy(weight).float()).sum().backward()
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(p.grad.numpy(), of_probability, atol=1e-5)
    np.testing.assert_allclose(features.grad.numpy(), of_context, atol=1e-5)


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_every_frustum_cell_stands_where_its_pixel_and_depth_say(seed):
    images, bases, *_ = small_scene(seed)
    found = small_splat().positions(camera_batch(bases, images, (16, 12)), SMALL_SIZE).numpy()
    for frame, camera, row, column, bin_ in np.ndindex(found.shape[:-1]):
        point = found[frame, camera, row, column, bin_]
        pixel, depth = project(projection(images[frame, camera], bases[frame, camera]), point)
        np.testing.assert_allclose(pixel, [(column + 0.5) * 4, (row + 0.5) * 4], atol=1e-3)
        np.testing.assert_allclose(depth, SMALL_BINS.start + (bin_ + 0.5) * SMALL_BINS.step, rtol=1e-5)


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_the_geometry_is_one_sparse_matrix_and_its_transpose(seed):
    images, bases, *_ = small_scene(seed)
    pairs, margin = frustum_in_grid(images, bases)
    geometry = small_splat().geometry(camera_batch(bases, images, (16, 12)), SMALL_SIZE)
    sparse = []
    for rows in geometry:
        ends = torch.cat([rows.first, torch.tensor([len(rows.value)])]).diff()
        sparse.append((rows.value, torch.arange(len(ends)).repeat_interleave(ends), rows.column))
    triples = {(v, cell, pixel) for v, cell, pixel in zip(*(t.tolist() for t in sparse[0]), strict=True)}
    assert triples == {(v, cell, pixel) for v, pixel, cell in zip(*(t.tolist() for t in sparse[1]), strict=True)}
    if margin > 1e-5:
        shape = (2, 3, SMALL_BINS.count, *SMALL_SIZE)
        assert triples == {
            (np.ravel_multi_index((b, n, d, r, c), shape), (b * 8 + j) * 10 + i, ((b * 3 + n) * 3 + r) * 4 + c)
            for (b, n, d, r, c), (j, i) in pairs
        }


@pytest.mark.parametrize(
    "augment",
    [augmentation(), augmentation(0.35, 1.05), augmentation(-0.2, 0.95, True, False), augmentation(0.1, 1, True, True)],
)
@pytest.mark.parametrize("camera", range(6))
def test_a_point_ahead_of_each_camera_lands_in_the_cell_where_it_stands(camera, augment):
    bins = DepthBins(1, 60, 0.5)
    images, bases, cameras = street_rig(augment)
    splat = LiftSplat(GRID, bins, STRIDE, -5, 3)
    geometry = splat.geometry(cameras, (HEIGHT // STRIDE, WIDTH // STRIDE))
    yaw = YAWS[camera]
    for metres, aside in ((6.0, 0.5), (18.0, -4.0), (35.0, 6.0)):
        place = [1 + metres * np.cos(yaw) - aside * np.sin(yaw), metres * np.sin(yaw) + aside * np.cos(yaw), 0.9]
        place = apply(augment, np.array([place]))[0]
        (u, v), depth = project(projection(images[camera], bases[camera]), place)
        assert 0 <= u < WIDTH and 0 <= v < HEIGHT
        probability = torch.zeros(1, 6, bins.count, HEIGHT // STRIDE, WIDTH // STRIDE)
        probability[0, camera, int((depth - bins.start) / bins.step), int(v / STRIDE), int(u / STRIDE)] = 1
        bev = splat(probability, torch.ones(1, 6, 1, *probability.shape[-2:]), geometry)[0, 0]
        ((j, i),) = bev.nonzero().tolist()
        assert abs(j - (place[1] - GRID.y_min) / GRID.cell + 0.5) <= 1.01
        assert abs(i - (place[0] - GRID.x_min) / GRID.cell + 0.5) <= 1.01


def test_lidar_returns_lifted_by_their_own_depth_stand_where_they_were():
    bins, stride = DepthBins(1, 40, 0.5), 2
    _, _, cameras = street_rig()
    points = torch.from_numpy(np.random.default_rng(0).uniform([-25, -25, 0], [25, 25, 2], (400, 3))).float()
    targets = depth_targets(depth_images(points, torch.zeros(400, dtype=torch.long), cameras), stride, bins)
    splat = LiftSplat(GRID, bins, stride, -5, 3)
    positions = splat.positions(cameras, targets.shape[-2:])
    seen = (targets != NO_RETURN).nonzero()
    lifted = positions[(*seen.T, targets[tuple(seen.T)])]
    # half a bin of 0.5 m along the view, and at most a pixel of 0.07 m across it
    assert len(lifted) > 200 and torch.cdist(lifted, points).amin(dim=1).max() < 0.4


def test_mirroring_the_world_mirrors_the_map():
    torch.manual_seed(0)
    splat, size = LiftSplat(GRID, DepthBins(1, 60, 1), STRIDE, -5, 3), (HEIGHT // STRIDE, WIDTH // STRIDE)
    probability, context = torch.rand(1, 6, 59, *size), torch.rand(1, 6, 3, *size)
    plain, flipped = (
        splat(probability, context, splat.geometry(street_rig(a)[2], size))
        for a in (augmentation(), augmentation(flip_x=True, flip_y=True))
    )
    # but for the few that stand on a border between two cells
    differ = ((plain - flipped.flip(2, 3)).abs() > 1e-3).float().mean()
    assert plain.abs().sum() > 0 and differ < 0.001


def test_what_stands_outside_the_grid_or_the_range_of_heights_is_dropped():
    cameras = camera_batch([[mounting()]], lens(10.0, 16, 12), (16, 4))
    probability, context = torch.ones(1, 1, 10, 1, 4), torch.ones(1, 1, 1, 1, 4)

    def total(grid, z_min, z_max):
        splat = LiftSplat(grid, DepthBins(1, 11, 1), 4, z_min, z_max)
        return splat(probability, context, splat.geometry(cameras, (1, 4))).sum()

    wide = BevGrid(-20, 20, -20, 20, 1)
    assert total(wide, -5, 10) == 40
    assert total(BevGrid(-20, 0, -20, 20, 1), -5, 10) == 0  # all that the camera sees is ahead of it
    assert total(BevGrid(-20, 5, -20, 20, 1), -5, 10) == 16  # depths 1.5 … 4.5 m
    # this row of pixels looks up: height 1.5 + 0.4 · depth
    assert total(wide, -5, 1.5 + 0.4 * 5) == 16 and total(wide, 1.5 + 0.4 * 5, 10) == 24


def test_an_absent_camera_adds_nothing_whatever_its_features_are():
    images, bases, probability, context = small_scene(5)
    probability, context = torch.tensor(probability).float(), torch.tensor(context).float()
    splat = small_splat()
    with_all = splat(probability, context, splat.geometry(camera_batch(bases, images, (16, 12)), SMALL_SIZE))
    present = [[True, False, True], [True, True, True]]
    rubbish = context.clone()
    rubbish[0, 1] = torch.nan
    without = splat(probability, rubbish, splat.geometry(camera_batch(bases, images, (16, 12), present), SMALL_SIZE))
    context[0, 1] = 0
    silent = splat(probability, context, splat.geometry(camera_batch(bases, images, (16, 12)), SMALL_SIZE))
    torch.testing.assert_close(without, silent)
    assert not torch.equal(with_all[0], without[0])


def test_a_frame_without_any_camera_is_exactly_zero_and_has_finite_gradients():
    images, bases, probability, context = small_scene(6)
    splat = small_splat()
    p, c = (torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in (probability, context))
    for present in ([[False] * 3, [True] * 3], [[False] * 3] * 2):
        geometry = splat.geometry(camera_batch(bases, images, (16, 12), present), SMALL_SIZE)
        bev = splat(p, c, geometry)
        bev.sum().backward()
        assert not bev[0].any() and bool(bev[1].any()) == present[1][0]
        assert not p.grad[0].any() and not c.grad[0].any() and p.grad.isfinite().all() and c.grad.isfinite().all()


def test_the_order_of_the_cameras_does_not_matter():
    images, bases, probability, context = small_scene(7)
    splat, order = small_splat(), [2, 0, 1]
    p, c = torch.tensor(probability).float(), torch.tensor(context).float()
    before = splat(p, c, splat.geometry(camera_batch(bases, images, (16, 12)), SMALL_SIZE))
    moved = camera_batch(bases[:, order], images[:, order], (16, 12))
    torch.testing.assert_close(splat(p[:, order], c[:, order], splat.geometry(moved, SMALL_SIZE)), before)


def test_a_batch_equals_its_frames_one_by_one():
    images, bases, probability, context = small_scene(8)
    splat = small_splat()
    p, c = torch.tensor(probability).float(), torch.tensor(context).float()
    together = splat(p, c, splat.geometry(camera_batch(bases, images, (16, 12)), SMALL_SIZE))
    for i in range(2):
        cameras = camera_batch(bases[i : i + 1], images[i : i + 1], (16, 12))
        alone = splat(p[i : i + 1], c[i : i + 1], splat.geometry(cameras, SMALL_SIZE))
        torch.testing.assert_close(together[i], alone[0])


def test_under_autocast_places_and_sums_stay_in_float32():
    """In bfloat16, 256 + 1 is 256, and 50.3 m is 50.25 m."""
    _, _, cameras = street_rig()
    splat, size = LiftSplat(BevGrid(-100, 100, -100, 100, 100), DepthBins(1, 60, 1), STRIDE, -99, 99), (16, 44)
    ones = torch.ones(1, 6, 59, *size, dtype=torch.bfloat16), torch.ones(1, 6, 2, *size, dtype=torch.bfloat16)
    fine = LiftSplat(GRID, DepthBins(1, 60, 1), STRIDE, -5, 3)
    expected = fine.geometry(cameras, size)
    with torch.autocast("cpu", torch.bfloat16):
        bev = splat(*ones, splat.geometry(cameras, size))
        found = fine.geometry(cameras, size)
    assert bev.dtype == torch.float32 and bev.shape == (1, 2, 2, 2) and bev[0, 0].sum() == 6 * 59 * 16 * 44
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_is_exported_with_its_geometry_inside():
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.splat = small_splat()

        def forward(self, logits, context, *of_cameras):
            geometry = self.splat.geometry(CameraBatch(*of_cameras), SMALL_SIZE)
            return self.splat(logits.softmax(dim=2), context, geometry)

    def tensors(seed, present=None):
        images, bases, probability, context = small_scene(seed)
        cameras = camera_batch(bases, images, (16, 12), present)
        return (
            torch.tensor(probability).float(),
            torch.tensor(context).float(),
            cameras.images,
            cameras.present,
            cameras.image_from_camera,
            cameras.image_from_stored,
            cameras.base_from_camera,
        )

    exported = torch.export.export(Whole().eval(), tensors(0), strict=False).module()
    for arguments in (tensors(0), tensors(1), tensors(2, [[False, True, True]] * 2), tensors(3, [[False] * 3] * 2)):
        torch.testing.assert_close(exported(*arguments), Whole()(*arguments))


def test_a_finer_map_is_brought_to_the_models_grid_and_every_weight_learns():
    torch.manual_seed(0)
    module, fine = BevDownsample(4), torch.rand(2, 4, 12, 20)
    coarse = module(fine)
    assert coarse.shape == (2, 4, 6, 10)
    coarse.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())

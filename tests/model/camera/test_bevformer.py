"""BEVFormer: what a camera sees arrives in the BEV cells whose pillars stand there, and nowhere else."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from support.rig import YAWS, camera_batch, lens, mounting
from torch import nn

from vexkd_model.camera.bevformer import BevFormer
from vexkd_model.camera.pillar_points import PillarGeometry, project_pillars, seen_queries
from vexkd_model.data.batch import CameraBatch
from vexkd_model.types import BevGrid

GRID = BevGrid(-10.0, 10.0, -12.0, 12.0, 2.0)  # 12 rows along y, 10 columns along x
HEIGHT, WIDTH = 48, 80
HEIGHTS = (-1.0, 0.0, 1.0, 2.0)
LEVELS = ((12, 20), (6, 10))
NOTHING_MOVED = np.eye(4)


def base_from_camera(yaw):
    """A level camera 1.5 m high and half a metre from the centre."""
    return mounting(yaw, at=(0.5 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5))


def rig(base_from=NOTHING_MOVED, image_from=NOTHING_MOVED[:3, :3], present=(True,) * 6):
    """One frame of six cameras. base_from: BEV augmentation. image_from: image augmentation."""
    return camera_batch(
        [[base_from @ base_from_camera(yaw) for yaw in YAWS]],
        image_from @ lens(45.0, WIDTH, HEIGHT),
        (WIDTH, HEIGHT),
        [present],
        image_from,
    )


# Mirrored, grown and turned, as in training.
AUGMENTED = rig(
    np.array([[0.95, -0.4, 0, 0.3], [-0.4, -0.95, 0, -0.2], [0, 0, 1.03, 0.1], [0, 0, 0, 1]]),
    np.array([[-1.1, 0.1, 82], [0.05, 1.1, -3], [0, 0, 1]]),
)


def side_by_side(*batches):
    return CameraBatch(
        **{field.name: torch.cat([getattr(batch, field.name) for batch in batches]) for field in fields(CameraBatch)}
    )


def model(layers=1, points_z=HEIGHTS, dropout=0.1, **options):
    torch.manual_seed(0)
    return BevFormer(
        GRID, [5, 7], width=16, layers=layers, heads=4, points_z=points_z, feedforward=32, dropout=dropout, **options
    ).eval()


def all_different(module):
    """Draw the weights that start at zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def features(batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, 6, channels, *size, generator=generator)
        for channels, size in zip((5, 7), LEVELS, strict=True)
    ]


def reading_attention(heights):
    """Cross-attention that only reads: one level, identity projections, no offsets."""
    torch.manual_seed(0)
    module = BevFormer(GRID, [4], width=4, layers=1, heads=1, points_z=heights).eval()
    attention = module.layers[0].cross_attention.attention
    with torch.no_grad():
        attention.value_proj.weight.copy_(torch.eye(4)[..., None, None])
        attention.output_proj.weight.copy_(torch.eye(4))
        attention.sampling_offsets.bias.zero_()

    def read(cameras, x):
        """Read x (6, H, W) at each cell, (Y, X)."""
        seen = seen_queries(module.geometry(cameras, (HEIGHT, WIDTH)), cameras.present)
        with torch.no_grad():
            out = module.layers[0].cross_attention(torch.zeros(1, 120, 4), [x[:, None].expand(-1, 4, -1, -1)], seen)
        return out[0, :, 0].view(12, 10)

    return read


def pixel(cameras, frame, camera, point):
    """Project a point of base_link to (u, v, depth), in float64."""
    matrix = cameras.base_from_camera[frame, camera].double().numpy()
    u, v, w = cameras.image_from_camera[frame, camera].double().numpy() @ np.linalg.solve(matrix, [*point, 1.0])[:3]
    return u / w, v / w, w


def cell_centre(row, column):
    return -10.0 + (column + 0.5) * 2.0, -12.0 + (row + 0.5) * 2.0


def test_pillars_project_where_plain_arithmetic_says():
    cameras = side_by_side(rig(), AUGMENTED)
    reference, visible = model().geometry(cameras, (HEIGHT, WIDTH))
    assert reference.shape == (2, 6, 120, 4, 2) and visible.shape == (2, 6, 120)
    behind = inside_somewhere = 0
    for b, n, row, column in itertools.product(range(2), range(6), range(12), range(10)):
        inside, close = [], False
        for r, z in enumerate(HEIGHTS):
            u, v, depth = pixel(cameras, b, n, (*cell_centre(row, column), z))
            own = reference[b, n, row * 10 + column, r].double()
            close |= min(abs(u), abs(u - WIDTH), abs(v), abs(v - HEIGHT), abs(depth)) < 1e-3
            inside.append(depth > 1e-5 and 0 <= u < WIDTH and 0 <= v < HEIGHT)
            if depth <= 1e-5:
                behind += 1
                assert own.abs().min() > 5  # widths of the image away from it
            elif abs(u) < 5 * WIDTH and abs(v) < 5 * HEIGHT:
                np.testing.assert_allclose(own * torch.tensor([WIDTH, HEIGHT]), [u, v], atol=2e-3)
        assert close or visible[b, n, row * 10 + column] == any(inside)
        inside_somewhere += any(inside)
    assert behind > 1000 and inside_somewhere > 200


def test_what_is_straight_behind_a_camera_is_not_in_its_image():
    """A crop with its corner on the optical axis, where a point behind would fall if only its pixel were asked."""
    camera = rig()
    camera.image_from_camera = torch.diag(torch.tensor([45.0, 45.0, 1.0])).expand(1, 6, 3, 3)
    camera.base_from_camera[:] = torch.from_numpy(base_from_camera(0.0)).float()
    ahead_and_behind = torch.tensor([[[4.5, 0.0, 1.5]], [[-3.5, 0.0, 1.5]]])
    reference, visible = project_pillars(ahead_and_behind, camera, (HEIGHT, WIDTH))
    assert visible[0, 0].tolist() == [True, False]
    torch.testing.assert_close(reference[0, 0, 0, 0], torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("cameras", [rig(), AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize("camera", [1, 3])
def test_a_bright_feature_reaches_the_cells_whose_pillars_project_there_and_no_other(cameras, camera):
    bevformer = model()
    with torch.no_grad():
        bevformer.layers[0].cross_attention.attention.sampling_offsets.bias.zero_()
    bright = features()
    bright[0][0, camera, :, 7, 11] += 20.0
    with torch.no_grad():
        change = (bevformer(bright, cameras) - bevformer(features(), cameras)).abs().amax(dim=1)[0]
    reached = 0
    for row, column in itertools.product(range(12), range(10)):
        share = 0.0
        for z in HEIGHTS:
            u, v, depth = pixel(cameras, 0, camera, (*cell_centre(row, column), z))
            if depth > 0:
                share += max(0.0, 1 - abs(u / 4 - 11.5)) * max(0.0, 1 - abs(v / 4 - 7.5))
        assert change[row, column] == 0 if share == 0 else change[row, column] > 1e-3 or share < 0.01
        reached += share > 0
    assert 0 < reached < 40


@pytest.mark.parametrize("camera", range(6))
def test_a_point_in_front_of_each_camera_lands_in_its_cell(camera):
    """A bright patch on the ground, 7 m ahead of one camera and a little to its left, as that camera sees it."""
    cameras, read = rig(), reading_attention((0.0,))
    c, s = np.cos(YAWS[camera]), np.sin(YAWS[camera])
    x, y = 7.5 * c - 0.8 * s, 7.5 * s + 0.8 * c
    image, pose = torch.zeros(6, HEIGHT, WIDTH), base_from_camera(YAWS[camera])
    for j, i in itertools.product(range(HEIGHT), range(WIDTH)):
        ray = pose[:3, :3] @ [(i + 0.5 - 40) / 45, (j + 0.5 - 24) / 45, 1.0]
        if ray[2] < 0:
            ground = pose[:3, 3] - ray * pose[2, 3] / ray[2]
            image[camera, j, i] = np.exp(-((ground[0] - x) ** 2 + (ground[1] - y) ** 2) / 2)
    seen = read(cameras, image)
    found = divmod(int(seen.argmax()), 10)
    assert seen.max() > 0.3
    assert abs(found[0] - np.floor((y + 12) / 2)) <= 1 and abs(found[1] - np.floor((x + 10) / 2)) <= 1


def test_a_cell_takes_the_mean_over_the_cameras_that_see_it_and_nothing_from_none():
    cameras, read = rig(), reading_attention((0.0,))
    value = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    out = read(cameras, value[:, None, None].expand(-1, HEIGHT, WIDTH))
    seen_by = {0: 0, 1: 0, 2: 0}
    for row, column in itertools.product(range(12), range(10)):
        found = [pixel(cameras, 0, n, (*cell_centre(row, column), 0.0)) for n in range(6)]
        if any(
            depth > 0 and (min(abs(u), abs(u - WIDTH)) < 0.6 or min(abs(v), abs(v - HEIGHT)) < 0.6)
            for u, v, depth in found
        ):
            continue  # half a feature from the border, where reads fade to the zero outside
        values = [value[n] for n, (u, v, depth) in enumerate(found) if depth > 0 and 0 <= u < WIDTH and 0 <= v < HEIGHT]
        seen_by[len(values)] += 1
        assert out[row, column] == pytest.approx(float(sum(values)) / max(len(values), 1), rel=1e-5)
    assert min(seen_by.values()) > 0


def test_an_absent_camera_shows_nothing_and_takes_no_share():
    bevformer = all_different(model(layers=2))
    there = rig(present=(True, True, False, True, True, True))
    placeholder = replace(
        there, base_from_camera=there.base_from_camera.clone(), image_from_camera=there.image_from_camera.clone()
    )
    placeholder.base_from_camera[0, 2], placeholder.image_from_camera[0, 2] = torch.eye(4), torch.eye(3)
    blind = bevformer.geometry(rig(), (HEIGHT, WIDTH))
    blind = PillarGeometry(blind.reference, blind.visible.clone())
    blind.visible[0, 2] = False
    other = features()
    for level in other:
        level[0, 2] = 1e3
    with torch.no_grad():
        expected = bevformer(features(), rig(), blind)
        torch.testing.assert_close(bevformer(features(), there), expected)
        torch.testing.assert_close(bevformer(other, placeholder), expected)
        assert (bevformer(features(), rig()) - expected).abs().max() > 0.01


def test_without_any_camera_the_map_is_finite_and_does_not_depend_on_features():
    bevformer, nothing = all_different(model(layers=2)), rig(present=(False,) * 6)
    with torch.no_grad():
        out = bevformer(features(), nothing)
        assert out.shape == (1, 16, 12, 10) and out.isfinite().all()
        torch.testing.assert_close(bevformer(features(seed=1), nothing), out, atol=0, rtol=0)


def test_a_batch_equals_its_frames_one_by_one():
    bevformer = all_different(model(layers=2))
    frames = [rig(), rig(present=(False,) * 6), AUGMENTED, rig(present=(True, False, False, False, True, True))]
    levels = features(4)
    with torch.no_grad():
        together = bevformer(levels, side_by_side(*frames))
        for i, frame in enumerate(frames):
            alone = bevformer([level[i : i + 1] for level in levels], frame)
            torch.testing.assert_close(together[i : i + 1], alone, atol=2e-5, rtol=1e-5)


def test_a_known_geometry_gives_the_same_map():
    bevformer, cameras = all_different(model()), side_by_side(rig(), AUGMENTED)
    with torch.no_grad():
        known = bevformer(features(2), cameras, bevformer.geometry(cameras, (HEIGHT, WIDTH)))
        torch.testing.assert_close(known, bevformer(features(2), cameras), atol=0, rtol=0)


def test_half_precision_keeps_the_geometry_and_nearly_the_map():
    bevformer, cameras = all_different(model(layers=2)), side_by_side(rig(), AUGMENTED)
    with torch.no_grad():
        exact, where = bevformer(features(2), cameras), bevformer.geometry(cameras, (HEIGHT, WIDTH))
        with torch.autocast("cpu", torch.bfloat16):
            rounded, where_rounded = bevformer(features(2), cameras), bevformer.geometry(cameras, (HEIGHT, WIDTH))
    assert torch.equal(where.reference, where_rounded.reference) and torch.equal(where.visible, where_rounded.visible)
    # Outputs of a LayerNorm, so about 1 in size.
    assert (rounded.float() - exact).abs().mean() < 0.02


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_reach_every_parameter_and_all_features(autocast):
    bevformer = all_different(model(layers=2, recompute=True)).train()
    levels = [level.requires_grad_() for level in features(2)]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = bevformer(levels, side_by_side(rig(), AUGMENTED))
    (out.float() * torch.randn(out.shape)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in bevformer.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().sum() > 0] == []
    assert all(level.grad.abs().sum(dim=(2, 3, 4)).min() > 0 for level in levels)


@pytest.mark.parametrize("deaf", ["self_attention", "cross_attention.attention"])
def test_both_attentions_choose_their_keys_by_the_cells_position(deaf):
    """With one that asks no query, the position's gradient comes through the other."""
    bevformer = all_different(model())
    attention = bevformer.layers[0].get_submodule(deaf)
    nn.init.zeros_(attention.sampling_offsets.weight)
    nn.init.zeros_(attention.attention_weights.weight)
    (bevformer(features(), rig()) * torch.randn(1, 16, 12, 10)).sum().backward()
    assert bevformer.row_embedding.grad.abs().min() > 0 and bevformer.column_embedding.grad.abs().min() > 0


def test_recomputed_activations_give_the_same_gradients():
    cameras, results = rig(), []
    for recompute in (False, True):
        bevformer = all_different(model(layers=2, dropout=0.3, recompute=recompute)).train()
        torch.manual_seed(5)  # the same dropout
        out = bevformer(features(), cameras)
        (out**3).mean().backward()
        results.append([out, *(parameter.grad for parameter in bevformer.parameters())])
    for kept, again in zip(*results, strict=True):
        torch.testing.assert_close(again, kept)


class OfTensors(nn.Module):
    """Wrapper with a batch's tensors as arguments, for torch.export."""

    def __init__(self, bevformer):
        super().__init__()
        self.bevformer = bevformer

    def forward(self, levels, cameras):
        return self.bevformer(levels, CameraBatch(*cameras))


def test_an_exported_program_says_the_same_whichever_cameras_are_there():
    module = OfTensors(all_different(model(recompute=True))).eval()

    def arguments(*frames):
        batch = side_by_side(*frames)
        return features(2), [getattr(batch, field.name) for field in fields(CameraBatch)]

    program = torch.export.export(module, arguments(rig(), AUGMENTED), strict=False).module()
    gone, few = rig(present=(False,) * 6), rig(present=(False, True, False, False, False, True))
    for frames in ((rig(), AUGMENTED), (AUGMENTED, few), (gone, gone)):
        with torch.no_grad():
            torch.testing.assert_close(program(*arguments(*frames)), module(*arguments(*frames)))


def test_pillar_points_that_do_not_divide_the_sampling_points_are_refused():
    with pytest.raises(ValueError, match="8 sampling points do not divide among 3 pillar points"):
        model(points_z=(0.0, 1.0, 2.0))

"""The voxel encoder against the published one, written here in spconv's own layers, and against where points stand."""

import numpy as np
import pytest
import spconv.pytorch as spconv
import torch
from torch import nn

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.lidar.sparse_encoder import VoxelEncoder
from vexkd_model.lidar.voxels import VoxelMeans
from vexkd_model.types import BevGrid

GRID = BevGrid(-7.2, 7.2, -3.6, 3.6, 0.8)  # 9 rows along y, 18 columns along x
RANGE = {"z_min": -5.0, "z_max": 3.0}
BACKENDS = ("torch", "spconv")


def encoder(backend=None, voxel=0.2, **changes):
    torch.manual_seed(0)
    sizes = {"voxel_z": 0.4, "stage_channels": (4, 6, 8), "out_channels": 10} | RANGE | changes
    module = VoxelEncoder(GRID, voxel, backend=backend, **sizes)
    with torch.no_grad():
        for norm in (part for part in module.modules() if isinstance(part, nn.BatchNorm1d)):
            for value in (norm.running_mean, norm.bias):
                value.normal_(0, 0.1)
            for value in (norm.running_var, norm.weight):
                value.uniform_(0.5, 1.5)
    return module.eval()


def cloud(count, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform([-8, -4, -5, 0, 0], [8, 4, 3, 64, 0.5], (count, 5)).astype(np.float32))


def encode(module, *clouds):
    sample = torch.cat([torch.full((len(points),), i) for i, points in enumerate(clouds)])
    return module(torch.cat(clouds), sample, len(clouds))


class PublishedEncoder(nn.Module):
    """mmdetection3d's SparseEncoder of basic blocks, as its nuScenes configurations for CenterPoint set it up."""

    def __init__(self):
        super().__init__()

        def norm(channels):
            return nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)

        def submanifold(inputs, outputs, key):
            return spconv.SubMConv3d(inputs, outputs, 3, padding=1, bias=False, indice_key=key)

        class Block(spconv.SparseModule):
            def __init__(self, channels, key):
                super().__init__()
                self.conv1, self.bn1 = submanifold(channels, channels, key), norm(channels)
                self.conv2, self.bn2 = submanifold(channels, channels, key), norm(channels)

            def forward(self, x):
                out = self.conv1(x)
                out = self.conv2(out.replace_feature(self.bn1(out.features).relu()))
                return out.replace_feature((self.bn2(out.features) + x.features).relu())

        self.encoder = spconv.SparseSequential(
            submanifold(5, 16, "subm1"),
            norm(16),
            nn.ReLU(),
            Block(16, "subm1"),
            Block(16, "subm1"),
            spconv.SparseConv3d(16, 32, 3, 2, padding=1, bias=False),
            norm(32),
            nn.ReLU(),
            Block(32, "subm2"),
            Block(32, "subm2"),
            spconv.SparseConv3d(32, 64, 3, 2, padding=1, bias=False),
            norm(64),
            nn.ReLU(),
            Block(64, "subm3"),
            Block(64, "subm3"),
            spconv.SparseConv3d(64, 128, 3, 2, padding=[0, 1, 1], bias=False),
            norm(128),
            nn.ReLU(),
            Block(128, "subm4"),
            Block(128, "subm4"),
            spconv.SparseConv3d(128, 128, (3, 1, 1), (2, 1, 1), bias=False),
            norm(128),
            nn.ReLU(),
        )

    def forward(self, features, coordinates, batch_size):
        out = self.encoder(spconv.SparseConvTensor(features, coordinates.int(), [41, 1440, 1440], batch_size))
        dense = torch.zeros(batch_size, *out.spatial_shape, 128)
        dense[tuple(out.indices.long().unbind(1))] = out.features
        return dense.permute(0, 4, 1, 2, 3).flatten(1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_published_encoder_on_a_real_keyframe(backend, keyframe_dataroot, tmp_path):
    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    points = torch.from_numpy(FrameIndex.open(tmp_path, "mini_train")[0].load_points(1))
    sample = torch.arange(len(points)) % 2  # two clouds of half the points each
    grid = BevGrid(-54.0, 54.0, -54.0, 54.0, 0.6)
    torch.manual_seed(0)
    ours, theirs = VoxelEncoder(grid, 0.075, 0.2, backend=backend, **RANGE), PublishedEncoder()
    values = [value for value in ours.state_dict().values() if value.ndim]
    names = [name for name, value in theirs.state_dict().items() if value.ndim]
    theirs.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on more, spconv's CPU build loses a row now and then
    with torch.no_grad():  # batch statistics, and then the running ones that they have made
        voxels = VoxelMeans(BevGrid(-54.0, 54.0, -54.0, 54.0, 0.075), 0.2, **RANGE)(points, sample)
        found = ours(points, sample, 2), ours.eval()(points, sample, 2)
        truth = theirs(*voxels, 2), theirs.eval()(*voxels, 2)
    torch.set_num_threads(threads)
    for mine, published in zip(found, truth, strict=True):
        assert mine.shape == published.shape == (2, 256, 180, 180) and ours.channels == 256
        assert published.max() > 1e-3
        assert (mine - published).abs().max() <= 1e-4 * published.abs().max()


@pytest.mark.parametrize(
    "stage_channels, voxel, voxel_z",
    [((4, 6, 8), 0.2, 0.4), ((4, 6, 8), 0.2, 0.2), ((4, 6), 0.4, 1.0), ((4,), 0.8, 8.0), ((4, 4, 4, 4), 0.1, 0.4)],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_stages_and_layers_of_height_keeps_every_point(backend, stage_channels, voxel, voxel_z):
    module = encoder(backend, voxel, stage_channels=stage_channels, voxel_z=voxel_z)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim > 1 or name.endswith("norm.weight"):
                value.abs_()  # so that whatever is there can only add to what is seen
        for name, value in module.named_buffers():
            if name.endswith("running_mean"):
                value.fill_(-1)
        for z in np.arange(-5.0, 3.0, voxel_z) + 0.01:
            out = encode(module, torch.tensor([[1.0, -2.0, z, 9.0, 0.1]]))
            assert out.shape == (1, module.channels, 9, 18) and out.max() > 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("x, y", [(5.9, -2.3), (-6.9, 3.4), (0.1, 0.1), (-0.3, -3.5)])
def test_a_point_shows_around_the_cell_where_it_stands(backend, x, y):
    with torch.no_grad():
        out = encode(encoder(backend), torch.tensor([[x, y, 0.5, 100.0, 0.0]]))[0]
    rows, columns = torch.nonzero(out.abs().sum(dim=0)).unbind(1)
    row, column = int((y + 3.6) / 0.8), int((x + 7.2) / 0.8)
    assert row in rows and column in columns
    assert (rows - row).abs().max() <= 1 and (columns - column).abs().max() <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_equals_its_samples_one_by_one(backend):
    clouds, module = [cloud(300, 1), cloud(0), cloud(20, 2)], encoder(backend)
    with torch.no_grad():
        together = encode(module, *clouds)
        for i, alone in enumerate(clouds):
            torch.testing.assert_close(together[i], encode(module, alone)[0], atol=1e-6, rtol=1e-5)


def test_backends_share_their_state_dict_and_their_result_and_its_gradients():
    results = []
    state = encoder("torch").state_dict()
    for backend in BACKENDS:
        module = encoder(backend).train()
        module.load_state_dict(state)
        out = encode(module, cloud(3000, 1), cloud(2000, 2))
        out.square().mean().backward()
        results.append(
            [
                out.detach(),
                *(value.grad for value in module.parameters()),
                *(value for value in module.buffers() if value.ndim),
            ]
        )
    for ours, theirs in zip(*results, strict=True):
        # Each layer agrees to 1e-5; batch statistics magnify what is left of it.
        assert (ours - theirs).abs().max() <= 2e-3 * theirs.abs().max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_reach_every_parameter(backend):
    module = encoder(backend).train()
    encode(module, cloud(2000)).square().sum().backward()
    assert [name for name, value in module.named_parameters() if not value.grad.any()] == []


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [0, 1])
def test_a_cloud_without_points_or_with_one_gives_a_finite_map_and_finite_gradients(count, backend, training):
    module = encoder(backend).train(training)
    points = torch.tensor([[1.0, 1.0, 0.0, 9.0, 0.1]])[:count]
    out = encode(module, points)
    out.sum().backward()
    assert out.isfinite().all() and out.any() == bool(count)
    assert all(value.grad.isfinite().all() for value in module.parameters())
    assert all(value.isfinite().all() for value in module.buffers())


def test_points_that_are_not_finite_change_nothing():
    strangers = torch.tensor([[np.nan, 0, 0, 1, 0], [0, 0, np.inf, 1, 0], [0, 0, 0, np.nan, 0], [99, 0, 0, 1, 0]])
    points, module = cloud(300), encoder()
    with torch.no_grad():
        assert torch.equal(encode(module, torch.cat([points, strangers.float()])), encode(module, points))


def test_autocast_changes_nothing():
    module = encoder()
    with torch.no_grad():
        plain = encode(module, cloud(1000))
        with torch.autocast("cpu", torch.bfloat16):
            cast = encode(module, cloud(1000))
    assert cast.dtype == torch.float32 and torch.equal(cast, plain)


def test_stages_that_do_not_lead_to_the_grids_cell_are_refused():
    message = r"3 stages turn voxels of 0\.1 m into cells of 0\.4 m, not of 0\.8 m"
    with pytest.raises(ValueError, match=message):
        encoder(voxel=0.1)


@pytest.mark.slow
def test_exported_it_computes_the_same_of_other_clouds_the_empty_one_included():
    module = encoder("spconv", 0.4, stage_channels=(4, 6))
    sample = torch.zeros(500, dtype=torch.long)
    points = torch.export.Dim("points", min=0)
    exported = torch.export.export(
        module, (cloud(500), sample, 1), strict=False, dynamic_shapes=({0: points}, {0: points}, None)
    ).module()
    with torch.no_grad():
        for other in (cloud(2000, 1), cloud(1, 2), cloud(0), torch.full((3, 5), torch.nan)):
            torch.testing.assert_close(encode(exported, other), encode(module, other), atol=1e-6, rtol=1e-5)


@pytest.mark.gpu
def test_a_gpu_computes_what_a_cpu_does():
    module, clouds = encoder(), (cloud(2000, 1), cloud(0), cloud(1000, 2))
    with torch.no_grad():
        expected = encode(module, *clouds)
        found = encode(module.cuda(), *(points.cuda() for points in clouds)).cpu()
    assert (found - expected).abs().max() <= 1e-2 * expected.abs().max()  # a GPU may multiply in TF32

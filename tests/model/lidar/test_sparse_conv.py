"""Sparse convolutions against dense ones, and against spconv's own layers on a real keyframe."""

import subprocess
import sys

import numpy as np
import pytest
import spconv.pytorch as spconv
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.lidar.sparse_conv import SparseConv3d, SparseMap, SubmanifoldConv3d
from vexkd_model.lidar.voxels import VoxelMeans
from vexkd_model.types import BevGrid

BACKENDS = ("torch", "spconv")
SUBMANIFOLD = ((3, 3, 3), None, None)
LAYERS = [  # kernel, stride, padding of all layers of the published encoder
    SUBMANIFOLD,
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((3, 3, 3), (2, 2, 2), (0, 1, 1)),
    ((3, 1, 1), (2, 1, 1), (0, 0, 0)),
]
NAMES = ["submanifold", "strided", "strided, no padding in z", "height"]


def layer_of(kind, in_channels, out_channels, backend=None):
    torch.manual_seed(0)
    kernel, stride, padding = kind
    if stride is None:
        return SubmanifoldConv3d(in_channels, out_channels, kernel, backend)
    return SparseConv3d(in_channels, out_channels, kernel, stride, padding, backend)


def spconvs_own(kind, in_channels, out_channels):
    kernel, stride, padding = kind
    if stride is None:
        return spconv.SubMConv3d(in_channels, out_channels, kernel, bias=False)
    return spconv.SparseConv3d(in_channels, out_channels, kernel, stride, padding, bias=False)


def scattered(shape, batch_size, channels, share=0.3, seed=0):
    """Make a map of which this share of the voxels is there, in no order, its borders and corners included."""
    random = np.random.default_rng(seed)
    there = random.random((batch_size, *shape)) < share
    there[:, :: max(1, shape[0] - 1), :: max(1, shape[1] - 1), :: max(1, shape[2] - 1)] = True
    coordinates = random.permutation(np.argwhere(there))
    features = random.normal(size=(len(coordinates), channels)).astype(np.float32)
    return SparseMap(torch.from_numpy(features).requires_grad_(), torch.from_numpy(coordinates), shape, batch_size)


def dense(x):
    """Scatter to a dense map, float64 (B, C, Z, Y, X), with gradients."""
    canvas = torch.zeros(x.batch_size, *x.shape, x.features.shape[1], dtype=torch.float64)
    return canvas.index_put(tuple(x.coordinates.unbind(1)), x.features.double()).permute(0, 4, 1, 2, 3)


def dense_layer(kind, x, weight):
    """The same convolution of the dense map, and where its output is active, (B, Z, Y, X)."""
    kernel, stride, padding = kind
    there = dense(x.with_features(torch.ones(len(x.coordinates), 1)))
    if stride is None:
        stride, padding = (1, 1, 1), tuple(size // 2 for size in kernel)
        active = there
    else:
        active = F.conv3d(there, torch.ones(1, 1, *kernel, dtype=torch.float64), stride=stride, padding=padding)
    out = F.conv3d(dense(x), weight.double().permute(0, 4, 1, 2, 3), stride=stride, padding=padding)
    return out, active[:, 0] > 0


def by_voxel(x):
    """Coordinates and features in ascending order, which backends need not share."""
    order = np.lexsort(x.coordinates.numpy().T[::-1])
    return x.coordinates[order], x.features[order]


def assert_close(found, expected, relative=1e-4):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= relative * expected.abs().max()


def assert_equals_dense(kind, layer, x):
    out = layer(x)
    expected, active = dense_layer(kind, x, layer.weight)
    coordinates, features = by_voxel(out)
    assert out.shape == tuple(active.shape[1:])
    assert torch.equal(coordinates, torch.nonzero(active))
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=features.shape))
    at_active = expected.permute(0, 2, 3, 4, 1)[active]
    assert_close(features.double(), at_active, 1e-5)
    wrt = [x.features, layer.weight]
    for found, truth in zip(
        torch.autograd.grad(features, wrt, direction.float()),
        torch.autograd.grad(at_active, wrt, direction),
        strict=True,
    ):
        assert_close(found, truth, 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LAYERS, ids=NAMES)
def test_a_layer_and_its_gradients_are_the_dense_ones_where_voxels_are(kind, backend):
    assert_equals_dense(kind, layer_of(kind, 5, 7, backend), scattered((7, 9, 6), 2, 5))


@settings(max_examples=30)
@given(
    st.tuples(*[st.integers(3, 7)] * 3),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.tuples(*[st.integers(0, 2)] * 3),
    st.floats(0, 1),
    st.integers(0, 100),
)
def test_the_fallback_equals_dense_for_any_kernel_stride_and_padding(shape, kernel, stride, padding, share, seed):
    kind = kernel, stride, tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    assert_equals_dense(kind, layer_of(kind, 2, 3, "torch"), scattered(shape, 2, 2, share, seed))


@pytest.mark.parametrize("kernel", [(1, 1, 1), (1, 3, 3), (3, 1, 5), (5, 5, 5)])
def test_the_fallback_is_submanifold_for_any_odd_kernel(kernel):
    kind = kernel, None, None
    assert_equals_dense(kind, layer_of(kind, 2, 3, "torch"), scattered((5, 6, 7), 2, 2))


@pytest.fixture(scope="module")
def keyframe(keyframe_dataroot, tmp_path_factory):
    """Coordinates (V, 4) and shape of the real keyframe's voxels of 0.075 × 0.075 × 0.2 m."""
    folder = tmp_path_factory.mktemp("keyframe")
    prepare(keyframe_dataroot, "v1.0-mini", folder)
    points = torch.from_numpy(FrameIndex.open(folder, "mini_train")[0].load_points(1))
    voxels = VoxelMeans(BevGrid(-54.0, 54.0, -54.0, 54.0, 0.075), 0.2, -5.0, 3.0)
    return voxels(points, torch.zeros(len(points), dtype=torch.long))[1], voxels.shape


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LAYERS, ids=NAMES)
def test_a_layer_and_its_gradients_are_spconvs_own_on_a_real_keyframe(kind, backend, keyframe, one_thread, monkeypatch):
    # Its backward pass on a CPU asks for a CUDA stream, uses none, and fails where PyTorch has none.
    monkeypatch.setattr("spconv.pytorch.ops.get_current_stream", lambda: 0)
    coordinates, shape = keyframe
    layer, own = layer_of(kind, 16, 24, backend), spconvs_own(kind, 16, 24)
    own.load_state_dict(layer.state_dict())
    features = torch.randn(len(coordinates), 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = layer(SparseMap(features, coordinates, shape, 1))
    expected = own(spconv.SparseConvTensor(features, coordinates.int(), list(shape), 1))
    assert list(out.shape) == expected.spatial_shape
    expected = SparseMap(expected.features, expected.indices.long(), out.shape, 1)
    (voxels, found), (same, truth) = by_voxel(out), by_voxel(expected)
    assert torch.equal(voxels, same)
    assert_close(found, truth)
    direction = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(found, [features, layer.weight], direction)
    for ours, theirs in zip(gradients, torch.autograd.grad(truth, [features, own.weight], direction), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("kind", LAYERS, ids=NAMES)
def test_weights_are_called_and_laid_out_as_spconvs(kind):
    ours, theirs = layer_of(kind, 5, 7).state_dict(), spconvs_own(kind, 5, 7).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LAYERS, ids=NAMES)
def test_no_voxels_give_no_voxels_and_zero_gradients(kind, backend):
    layer = layer_of(kind, 5, 7, backend)
    x = SparseMap(torch.zeros(0, 5), torch.zeros(0, 4, dtype=torch.long), (7, 9, 6), 2)
    out = layer(x)
    out.features.sum().backward()
    assert out.features.shape == (0, 7) and out.coordinates.shape == (0, 4)
    assert not layer.weight.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LAYERS, ids=NAMES)
@pytest.mark.parametrize("voxel", [[1, 0, 0, 0], [0, 6, 8, 5], [1, 2, 4, 4]])
def test_one_voxel_meets_every_weight_that_reaches_it(kind, backend, voxel):
    x = SparseMap(torch.randn(1, 5).requires_grad_(), torch.tensor([voxel]), (7, 9, 6), 2)
    assert_equals_dense(kind, layer_of(kind, 5, 7, backend), x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_on_the_same_voxels_share_what_they_found_and_are_what_they_are_alone(backend):
    first, second = layer_of(SUBMANIFOLD, 5, 5, backend), layer_of(SUBMANIFOLD, 5, 7, backend)
    x = scattered((7, 9, 6), 2, 5)
    shared = first(x)
    assert shared.rulebooks is x.rulebooks and len(x.rulebooks) == 1
    alone = SparseMap(shared.features, x.coordinates, x.shape, x.batch_size)
    torch.testing.assert_close(second(shared).features, second(alone).features)
    assert len(x.rulebooks) == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LAYERS, ids=NAMES)
def test_autocast_changes_nothing(kind, backend):
    layer, x = layer_of(kind, 5, 7, backend), scattered((7, 9, 6), 2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x.with_features(x.features.bfloat16()))
    again = layer(x.with_features(x.features.bfloat16().float()))
    assert out.features.dtype == torch.float32 and torch.equal(out.features, again.features)
    out.features.sum().backward()
    assert layer.weight.grad.isfinite().all() and layer.weight.grad.any()


@pytest.mark.slow
def test_without_spconv_the_same_layers_compute_the_same(tmp_path):
    x, layer = scattered((7, 9, 6), 2, 5), layer_of(SUBMANIFOLD, 5, 7, "spconv")
    torch.save({"features": x.features.detach(), "coordinates": x.coordinates} | layer.state_dict(), tmp_path / "in.pt")
    program = f"""
import sys
sys.modules["spconv"] = None
import torch
from vexkd_model.lidar.sparse_conv import SparseMap, SubmanifoldConv3d
there = torch.load("{tmp_path}/in.pt")
layer = SubmanifoldConv3d(5, 7)
layer.load_state_dict({{"weight": there["weight"]}})
out = layer(SparseMap(there["features"], there["coordinates"], (7, 9, 6), 2))
torch.save(out.features.detach(), "{tmp_path}/out.pt")
try:
    SubmanifoldConv3d(5, 7, backend="spconv")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert_close(torch.load(tmp_path / "out.pt"), layer(x).features.detach(), 1e-5)
    assert "spconv cannot be imported" in done.stdout


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch", None])
@pytest.mark.parametrize("kind", LAYERS, ids=NAMES)
def test_a_gpu_computes_what_a_cpu_does(kind, backend):
    on_cpu, on_gpu = layer_of(kind, 5, 7, "torch"), layer_of(kind, 5, 7, backend).cuda()
    x = scattered((7, 9, 6), 2, 5)
    coordinates, expected = by_voxel(on_cpu(x))
    there = SparseMap(x.features.detach().cuda().requires_grad_(), x.coordinates.cuda(), x.shape, x.batch_size)
    out = on_gpu(there)
    same, found = by_voxel(SparseMap(out.features.cpu(), out.coordinates.cpu(), out.shape, out.batch_size))
    assert torch.equal(coordinates, same)
    assert_close(found, expected, 1e-3)  # a GPU may multiply in TF32
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    truth = torch.autograd.grad(expected, [x.features, on_cpu.weight], direction)
    for ours, theirs in zip(torch.autograd.grad(found, [there.features, on_gpu.weight], direction), truth, strict=True):
        assert_close(ours.cpu(), theirs, 1e-3)

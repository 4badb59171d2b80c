"""Depth nets: the inputs that each depends on, and tasks that each must learn."""

import numpy as np
import pytest
import torch

from vexkd_model.camera.depth_nets import (
    CAMERA_NUMBERS,
    Aspp,
    CameraAwareDepthNet,
    LidarDepthNet,
    PlainDepthNet,
    camera_vectors,
)
from vexkd_model.data.batch import CameraBatch
from vexkd_model.layers import IMAGE_EPS, BasicBlock

BINS, CHANNELS, WIDTH, HEIGHT, STRIDE = 7, 5, 96, 48, 8
SIZE = (HEIGHT // STRIDE, WIDTH // STRIDE)


def rig(frames=2, count=3, focal=80.0, seed=0):
    """Cameras that differ in focal length, mounting and augmentation."""
    random = np.random.default_rng(seed)
    shape = (frames, count)
    lens = np.tile([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]], (*shape, 1, 1))
    lens[..., [0, 1], [0, 1]] *= random.uniform(0.7, 1.3, (*shape, 1))
    stored = np.tile(np.eye(3), (*shape, 1, 1))
    stored[..., :2, :] += random.uniform(-0.1, 0.1, (*shape, 2, 3))
    base = np.tile(np.eye(4), (*shape, 1, 1))
    base[..., :3, :] += random.uniform(-1, 1, (*shape, 3, 4))
    return CameraBatch(
        torch.zeros(*shape, 3, HEIGHT, WIDTH, dtype=torch.uint8),
        torch.ones(shape, dtype=torch.bool),
        *(torch.tensor(matrix).float() for matrix in (lens, stored, base)),
    )


def part(cameras, *index):
    return CameraBatch(
        *(
            getattr(cameras, name)[index]
            for name in ("images", "present", "image_from_camera", "image_from_stored", "base_from_camera")
        )
    )


def plain():
    torch.manual_seed(0)
    return PlainDepthNet(6, BINS, CHANNELS)


def aware():
    torch.manual_seed(0)
    return CameraAwareDepthNet(6, 8, BINS, CHANNELS)


def lidar(stride=STRIDE):
    torch.manual_seed(0)
    return LidarDepthNet(6, BINS, CHANNELS, stride)


def inputs(net, frames=2, count=3):
    """Arguments of its forward: features, cameras and, where it reads them, LiDAR returns in one pixel of ten."""
    random = torch.Generator().manual_seed(1)
    features = torch.randn(frames, count, 6, *SIZE, generator=random)
    depth = torch.rand(frames, count, HEIGHT, WIDTH, generator=random) * 60
    depth = depth * (torch.rand(depth.shape, generator=random) < 0.1)
    return (features, rig(frames, count), *([depth] if isinstance(net, LidarDepthNet) else []))


NETS = pytest.mark.parametrize("make", [plain, aware, lidar])


@NETS
def test_every_feature_cell_gets_logits_and_context(make):
    net = make()
    logits, context = net(*inputs(net))
    assert logits.shape == (2, 3, BINS, *SIZE) and context.shape == (2, 3, CHANNELS, *SIZE)


@NETS
def test_every_weight_learns_from_depth_and_context_together_on_a_single_frame(make):
    net = make()
    logits, context = net(*inputs(net, frames=1))
    (logits.square().sum() + context.square().sum()).backward()
    assert {name for name, p in net.named_parameters() if not p.grad.abs().sum() > 0} == set()


@NETS
def test_a_single_image_can_be_trained_on(make):
    net = make()
    logits, context = net(*inputs(net, frames=1, count=1))
    assert logits.isfinite().all() and context.isfinite().all()


@NETS
def test_a_batch_equals_its_cameras_one_by_one(make):
    net = make().eval()
    arguments = inputs(net)
    together = net(*arguments)
    for frame in range(2):
        for camera in range(3):
            index = slice(frame, frame + 1), slice(camera, camera + 1)
            alone = net(arguments[0][index], part(arguments[1], *index), *(a[index] for a in arguments[2:]))
            torch.testing.assert_close(alone.logits, together.logits[index], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(alone.context, together.context[index], atol=1e-5, rtol=1e-4)


@NETS
def test_bfloat16_says_nearly_the_same(make):
    net = make().eval()
    arguments = inputs(net)
    with torch.autocast("cpu", torch.bfloat16):
        low = net(*arguments)
    for found, exact in zip(low, net(*arguments), strict=True):
        assert (found.float() - exact).abs().max() < 0.05 * exact.abs().max()


@NETS
def test_it_is_exported(make):
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make()

        def forward(self, features, depth, *of_cameras):
            return self.net(features, CameraBatch(*of_cameras), *depth)

    features, cameras, *depth = inputs(make())
    tensors = (
        cameras.images,
        cameras.present,
        cameras.image_from_camera,
        cameras.image_from_stored,
        cameras.base_from_camera,
    )
    whole = Whole().eval()
    exported = torch.export.export(whole, (features, tuple(depth), *tensors), strict=False).module()
    torch.testing.assert_close(exported(features * 2, tuple(depth), *tensors), whole(features * 2, depth, *tensors))


def test_the_plain_net_is_one_linear_map_of_each_cell():
    net = plain()
    features, cameras = inputs(net)
    logits, context = net(features, cameras)
    weight, bias = net.layer.weight[:, :, 0, 0], net.layer.bias
    expected = torch.einsum("oi,bnihw->bnohw", weight, features) + bias[:, None, None]
    torch.testing.assert_close(torch.cat([logits, context], dim=2), expected)


def test_a_camera_is_described_by_its_lens_in_image_sizes_its_augmentation_and_its_mounting_in_metres():
    cameras = rig(1, 1)
    cameras.image_from_camera[0, 0] = torch.tensor([[96.0, 1.92, 48], [0.96, 72, 12], [0, 0, 1]])
    cameras.image_from_stored[0, 0] = torch.tensor([[0.5, 0.1, -24], [-0.1, 0.4, 4.8], [0, 0, 1]])
    cameras.base_from_camera[0, 0, :3] = torch.arange(12.0).view(3, 4)
    expected = [1, 0.02, 0.5, 0.02, 1.5, 0.25, 0.5, 0.1, -0.1, 0.4, -0.25, 0.1, *range(12)]
    assert len(expected) == CAMERA_NUMBERS
    torch.testing.assert_close(camera_vectors(cameras), torch.tensor([[expected]]))


def test_only_the_camera_aware_net_tells_a_long_lens_from_a_short_one():
    features = inputs(plain())[0]
    for net, differs in ((plain().eval(), False), (aware().eval(), True)):
        short, long = net(features, rig(focal=80)), net(features, rig(focal=110))
        assert torch.equal(short.logits, long.logits) != differs
        assert torch.equal(short.context, long.context) != differs


def test_the_camera_aware_net_treats_each_image_by_its_own_camera():
    net = aware().eval()
    features, cameras = inputs(net)
    order = [2, 0, 1]
    moved = net(features[:, order], part(cameras, slice(None), order))
    torch.testing.assert_close(moved.logits, net(features, cameras).logits[:, order])
    wrong = net(features[:, order], cameras)
    assert not torch.allclose(wrong.logits, moved.logits)


def test_a_number_that_never_varied_in_training_does_not_decide_on_another_vehicle():
    """Trained where all cameras are equally high, it takes one 5 cm higher for unusual and not for unheard of."""
    net = aware().train()
    net.norm.momentum = 1.0  # one pass is as good as many
    features, cameras = inputs(net)
    cameras.base_from_camera[..., 2, 3] = 1.5
    net(features, cameras)
    net.eval()
    before = net.norm(camera_vectors(cameras).flatten(0, 1))
    cameras.base_from_camera[..., 2, 3] += 0.05
    assert (net.norm(camera_vectors(cameras).flatten(0, 1)) - before).abs().max() < 2
    assert before.std(dim=0).median() > 0.9  # what did vary counts in full


def test_a_residual_block_adds_to_what_it_is_given():
    block, x = BasicBlock(3, 3, eps=IMAGE_EPS).eval(), torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        block.layers[-1].weight.zero_()
    torch.testing.assert_close(block(x), x.relu())


def test_the_camera_aware_net_has_the_published_number_of_weights():
    """BEVDepth at 512 → 512 → 112 bins and 80 channels, counted layer by layer from its paper and code."""
    hidden, bins, channels = 512, 112, 80

    def conv_bn(channels_in, kernel):
        return channels_in * hidden * kernel**2 + 2 * hidden

    linear = hidden * hidden + hidden
    gates = 2 * ((CAMERA_NUMBERS + 1) * hidden + 3 * linear)
    aspp = 2 * conv_bn(hidden, 1) + 3 * conv_bn(hidden, 3) + conv_bn(5 * hidden, 1)
    expected = (
        conv_bn(hidden, 3)
        + 2 * CAMERA_NUMBERS
        + gates
        + hidden * channels
        + channels
        + 6 * conv_bn(hidden, 3)
        + aspp
        + hidden * hidden // 4 * 9
        + hidden * bins
        + bins
    )
    with torch.device("meta"):
        net = CameraAwareDepthNet(hidden, hidden, bins, channels)
    assert sum(p.numel() for p in net.parameters()) == expected


def test_the_pyramid_sees_far_and_the_whole():
    torch.manual_seed(0)
    pyramid, x = Aspp(16).eval(), torch.randn(1, 16, 48, 48, requires_grad=True)
    reaches = []
    for branch in pyramid.branches:
        (gradient,) = torch.autograd.grad(branch[0](x)[0, :, 24, 24].sum(), x)
        reaches.append((gradient.abs().sum((0, 1)).nonzero() - 24).abs().max().item())
    assert reaches == [0, 6, 12, 18]
    (gradient,) = torch.autograd.grad(pyramid(x)[0, :, 0, 0].sum(), x)
    assert gradient[0, :, 47, 47].abs().sum() > 0


@pytest.mark.parametrize("stride", [8, 16])
def test_a_lidar_return_speaks_to_the_feature_cell_that_it_falls_into(stride):
    net = lidar(stride).eval()
    with torch.no_grad():
        for norm in (m for m in net.returns.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.bias.fill_(1.0)  # no ReLU hides what arrives
    for row, column in ((0, 0), (17, 33), (HEIGHT - 2, WIDTH - 2), (31, 64)):
        depth = torch.zeros(2, 1, HEIGHT, WIDTH)
        depth[1, 0, row, column] = 0.1
        nothing, one = net.returns(depth)
        changed = (one - nothing).abs().sum(0)
        assert changed.shape == (HEIGHT // stride, WIDTH // stride)
        reached = changed.nonzero() - torch.tensor([row // stride, column // stride])
        assert changed[row // stride, column // stride] > 0 and reached.abs().max() <= 2


def test_a_stride_that_no_depth_image_is_brought_to_is_refused():
    with pytest.raises(ValueError, match="stride 8 or 16"):
        LidarDepthNet(6, BINS, CHANNELS, 4)


def test_lidar_changes_what_the_lidar_net_believes():
    net = lidar().eval()
    features, cameras, depth = inputs(net)
    assert not torch.allclose(net(features, cameras, depth).logits, net(features, cameras, depth * 0).logits)
    assert all(out.isfinite().all() for out in net(features, cameras, depth * 0))

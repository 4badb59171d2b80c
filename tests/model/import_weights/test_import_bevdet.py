"""Import of BEVDet: its weights give the same depths, BEV maps and boxes here."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from published_networks import BasicBlock, BevResNet, CenterHead, FinestFpn, FpnLss, ResNet18, named, randomised
from support.rig import AHEAD, camera_batch, lens, turned
from torch import nn
from torch.nn import functional as F

from vexkd_model.config import load_config
from vexkd_model.data.batch import SensorBatch
from vexkd_model.import_weights.families import NUSCENES_LIDAR
from vexkd_model.import_weights.importer import import_weights

BINS, CONTEXT, NECK = 59, 8, 16
MODEL = (
    "frame={}",  # both are given the same map
    "grid={extent: 9.6, cell: 0.8}",
    "camera.backbone.name=resnet18",
    "camera.images.width=128",
    "camera.images.height=64",
    f"camera.view.neck_channels={NECK}",
    f"camera.view.channels={CONTEXT}",
    "bev={kind: resnet, stage_channels: [16, 32, 64], stage_blocks: [2, 1, 2], channels: 16}",
    "detection.shared_channels=8",
    "detection.task_channels=8",
    "segmentation=null",
)
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
FIELDS = ("heatmap", "reg", "height", "dim", "rot", "vel")


@pytest.fixture(scope="module")
def config(config_path):
    return load_config(config_path.with_name("bevdet_r50.yaml"), MODEL)


@pytest.fixture(scope="module")
def cameras():
    """Make two cameras with noise for images, looking ahead and back from the middle of the grid."""
    torch.manual_seed(1)
    black = camera_batch([[AHEAD, turned(np.pi) @ AHEAD]], lens(100.0, 128, 64), (128, 64))
    return replace(black, images=torch.randint(0, 256, (1, 2, 3, 64, 128), dtype=torch.uint8))


def network(depth_net):
    return randomised(
        named(
            img_backbone=ResNet18(),
            img_neck=FinestFpn((256, 512), NECK),
            img_view_transformer=named(**{depth_net: nn.Conv2d(NECK, BINS + CONTEXT, 1)}),
            img_bev_encoder_backbone=BevResNet(CONTEXT, (16, 32, 64), (2, 1, 2)),
            img_bev_encoder_neck=FpnLss(80, 16),
            pts_bbox_head=CenterHead(16, 8),
        )
    )


def imported(net, config, path, meta=None):
    torch.save({"meta": meta or {}, "state_dict": net.state_dict()}, path)
    model, _, report = import_weights(path, config)
    return model.eval(), report


def no_points():
    return torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), 1


def assert_near(ours, theirs, share=1e-3):
    torch.testing.assert_close(ours, theirs, atol=share * float(theirs.std()), rtol=0)


@torch.no_grad()
def test_bevdet_sees_the_same_depths_and_says_the_same_of_the_same_bev_map(config, tmp_path, cameras):
    net = network("depthnet")
    model, report = imported(net, config, tmp_path / "c.pth")
    assert not report.missing and not report.unexpected and not report.differing
    out = model(SensorBatch(*no_points(), cameras))
    images = (cameras.images[0].float() - MEAN[:, None, None]) / STD[:, None, None]
    depth = net.img_view_transformer.depthnet(net.img_neck(net.img_backbone(images)))[:, :BINS]
    assert_near(out.depth[0], depth)
    bev = net.img_bev_encoder_neck(net.img_bev_encoder_backbone(out.features.low))
    assert_near(out.features.high, bev)
    for ours, theirs in zip(out.detection, net.pts_bbox_head(bev), strict=True):
        # As mmdetection3d before 1.0: width before length, and −yaw − π/2.
        yaw = -torch.atan2(theirs["rot"][:, 0], theirs["rot"][:, 1]) - torch.pi / 2
        direction = F.normalize(ours.heading, dim=1)
        torch.testing.assert_close(direction, torch.stack([yaw.sin(), yaw.cos()], dim=1), atol=1e-3, rtol=0)
        assert_near(ours.size, theirs["dim"][:, [1, 0, 2]])
        assert_near(ours.heatmap, theirs["heatmap"])


@pytest.mark.parametrize(("depth_net", "frame"), [("depthnet", NUSCENES_LIDAR), ("depth_net", None)])
def test_version_1_works_in_the_lidars_frame_and_version_2_in_base_link(config_path, tmp_path, depth_net, frame):
    unframed = load_config(config_path.with_name("bevdet_r50.yaml"), MODEL[1:])
    torch.save({"state_dict": network(depth_net).state_dict()}, tmp_path / "c.pth")
    _, config, report = import_weights(tmp_path / "c.pth", unframed)
    assert config.frame == frame and ("LiDAR frame" in report.text()) == (frame is not None)


@torch.no_grad()
def test_version_2_has_our_boxes_and_frame_and_its_colours_are_brought_back(config, tmp_path, cameras):
    net = network("depth_net")
    model, report = imported(net, config, tmp_path / "c.pth")
    assert not report.missing and not report.unexpected and not report.differing
    assert "blue, green, red" in report.text()
    assert "have cells of" not in report.text()
    bev = net.img_bev_encoder_neck(net.img_bev_encoder_backbone(torch.randn(1, CONTEXT, 24, 24)))
    for ours, theirs in zip(model.detection(bev), net.pts_bbox_head(bev), strict=True):
        for field, name in zip(ours[:6], FIELDS, strict=True):
            assert_near(field, theirs[name])

    rgb = cameras.images[0].float()
    bgr = (rgb.flip(1) - MEAN[:, None, None]) / STD[:, None, None]  # the means stay where they were
    theirs = net.img_backbone.bn1(net.img_backbone.conv1(bgr)).relu()
    stem = model.camera.backbone.body.embedder.embedder
    ours = stem((rgb - MEAN[:, None, None]) / STD[:, None, None])
    assert_near(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2])


class Aspp(nn.Module):
    def __init__(self, channels):
        super().__init__()
        for i, dilation in enumerate((1, 6, 12, 18)):
            conv = (
                nn.Conv2d(channels, channels, 1, bias=False)
                if i == 0
                else nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
            )
            self.add_module(f"aspp{i + 1}", named(atrous_conv=conv, bn=nn.BatchNorm2d(channels)))
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.conv1, self.bn1 = nn.Conv2d(5 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        branches = [getattr(self, f"aspp{i}") for i in (1, 2, 3, 4)]
        maps = [branch.bn(branch.atrous_conv(x)).relu() for branch in branches]
        pooled = F.interpolate(self.global_avg_pool(x), size=x.shape[-2:], mode="bilinear", align_corners=True)
        return self.bn1(self.conv1(torch.cat([*maps, pooled], dim=1))).relu()


def camera_aware_depth_net(in_channels, channels, bins, context, deformable):
    gate = {"conv_reduce": nn.Conv2d(channels, channels, 1), "conv_expand": nn.Conv2d(channels, channels, 1)}
    mlp = {"fc1": nn.Linear(27, channels), "fc2": nn.Linear(channels, channels)}
    return named(
        reduce_conv=nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()),
        context_conv=nn.Conv2d(channels, context, 1),
        bn=nn.BatchNorm1d(27),
        depth_mlp=named(**mlp),
        depth_se=named(**gate),
        context_mlp=named(**mlp),
        context_se=named(**gate),
        depth_conv=nn.Sequential(
            *(BasicBlock(channels, channels) for _ in range(3)),
            Aspp(channels),
            *deformable,
            nn.Conv2d(channels, bins, 1),
        ),
    )


@pytest.mark.parametrize("deformable", [[nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False)], []])
@torch.no_grad()
def test_bevdet4d_depth_keeps_its_history_encoder_and_what_its_depth_net_shares(config_path, tmp_path, deformable):
    overrides = [text for text in MODEL if not text.startswith("camera.view")]
    config = load_config(
        config_path.with_name("bevdet4d_depth_r50.yaml"),
        [
            *overrides,
            "camera.view.neck_channels=16",
            "camera.view.channels=8",
            "camera.view.depth_channels=16",
            "camera.past_frames=1",
            "grid={extent: 9.6, cell: 0.6}",
        ],
    )
    net = randomised(
        named(
            img_view_transformer=named(depth_net=camera_aware_depth_net(16, 16, 112, 8, deformable)),
            img_bev_encoder_backbone=BevResNet(16, (16, 32, 64), (2, 1, 2)),
            pre_process_net=BevResNet(8, (8,), (1,), (1,)),
        )
    )
    model, report = imported(net, config, tmp_path / "c.pth")
    bev = torch.randn(1, 8, 24, 24)
    assert_near(model.camera.history.encoder(bev), net.pre_process_net(bev)[0])
    theirs, ours = net.img_view_transformer.depth_net, model.camera.view.depth_net
    features, reduced = torch.randn(2, 16, 20, 20), torch.randn(2, 16, 20, 20)
    assert_near(ours.reduce(features), theirs.reduce_conv(features))
    assert_near(ours.context(reduced), theirs.context_conv(reduced))
    assert_near(ours.depth[:4](reduced), theirs.depth_conv[:4](reduced))
    assert_near(ours.depth[5](reduced), theirs.depth_conv[-1](reduced))
    left = {name.split(".")[3] for name in report.missing if name.startswith("camera.view.depth_net.")}
    assert left == {"norm", "depth_gate", "context_gate", "depth"}
    assert "camera.view.depth_net.depth.4.weight" in report.missing
    assert "depth must be trained again" in report.text()
    assert "have cells of 0.8 m, not of 0.6 m" in report.text()

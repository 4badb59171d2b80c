"""Import of BEVFusion from both its publishers: the weights give the same maps, proposals and depths here.

Its maps are (B, C, X, Y): what is theirs is transposed before it is compared with ours.
"""

import pytest
import torch
from published_networks import Second, SecondFpn, SparseEncoder, conv_module, named, randomised
from torch import nn
from torch.nn import functional as F

from vexkd_model.config import load_config
from vexkd_model.data.batch import SensorBatch
from vexkd_model.import_weights.importer import import_weights
from vexkd_model.model import build_model

CHANNELS, SHAPE, EXTENT = (8, 8, 16, 16), (41, 64, 64), 6.4
COMMON = (
    "frame={}",  # both are given the same points and maps
    "grid={extent: 6.4, cell: 1.6}",
    "detection.channels=16",
    "detection.proposals=20",
    "detection.heads=4",
    "detection.feedforward=24",
    "lidar.encoder.voxel=0.2",
    f"lidar.encoder.stage_channels={list(CHANNELS)}",
    "lidar.encoder.channels=8",
    "bev={kind: second, stage_channels: [16, 32], stage_layers: [3, 2], lateral_channels: 16}",
)
LIDAR = (*COMMON, "camera=null", "fusion=null", "segmentation=null")
FUSED = (
    *COMMON,
    "camera.images.width=64",
    "camera.images.height=32",
    "camera.view.neck_channels=16",
    "camera.view.channels=8",
    "camera.view.depth_channels=16",
    "fusion.channels=16",
    "segmentation={grid: {extent: 50.0, cell: 0.5}, channels: 32, loss_weight: 1.0}",
)


class Decoder(nn.Module):
    def __init__(self, channels, heads, feed_forward):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads)
        self.multihead_attn = nn.MultiheadAttention(channels, heads)
        self.linear1, self.linear2 = nn.Linear(channels, feed_forward), nn.Linear(feed_forward, channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        for name in ("self_posembed", "cross_posembed"):
            self.add_module(
                name,
                named(
                    position_embedding_head=nn.Sequential(
                        nn.Conv1d(2, channels, 1), nn.BatchNorm1d(channels), nn.ReLU(), nn.Conv1d(channels, channels, 1)
                    )
                ),
            )

    def forward(self, query, key, query_position, key_position):
        """Decode queries (1, C, P) by keys (1, C, X · Y); positions: (1, 2, P) and (1, 2, X · Y)."""
        query, key, query_position, key_position = (
            tensor.permute(2, 0, 1)
            for tensor in (
                query,
                key,
                self.self_posembed.position_embedding_head(query_position),
                self.cross_posembed.position_embedding_head(key_position),
            )
        )
        placed = query + query_position
        query = self.norm1(query + self.self_attn(placed, placed, placed)[0])
        key = key + key_position
        query = self.norm2(query + self.multihead_attn(query + query_position, key, key)[0])
        return self.norm3(query + self.linear2(self.linear1(query).relu())).permute(1, 2, 0)


class TransFusionHead(nn.Module):
    def __init__(self, in_channels, channels, proposals, heads, feed_forward):
        super().__init__()
        self.proposals = proposals
        self.shared_conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.heatmap_head = nn.Sequential(conv_module(channels, channels), nn.Conv2d(channels, 10, 3, padding=1))
        self.class_encoding = nn.Conv1d(10, channels, 1)
        self.decoder = nn.ModuleList([Decoder(channels, heads, feed_forward)])
        fields = {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "heatmap": 10}
        self.prediction_heads = nn.ModuleList(
            [
                named(
                    **{
                        name: nn.Sequential(
                            conv_module(channels, 64, 1, nn.Conv1d, nn.BatchNorm1d), nn.Conv1d(64, width, 1)
                        )
                        for name, width in fields.items()
                    }
                )
            ]
        )

    def forward(self, x):
        """Predict from x (1, C, X, Y): fields (1, C, P), the dense heatmap, and class, x, y of each proposal's cell."""
        x = self.shared_conv(x)
        heatmap = self.heatmap_head(x)
        score = heatmap.sigmoid()
        highest = torch.zeros_like(score)
        highest[:, :, 1:-1, 1:-1] = F.max_pool2d(score, 3, stride=1)
        highest[:, 8:] = score[:, 8:]
        best = (score * (score == highest)).flatten().topk(self.proposals).indices
        label, cell = best // heatmap[0, 0].numel(), best % heatmap[0, 0].numel()
        tokens = x.flatten(2)
        query = tokens[:, :, cell] + self.class_encoding(F.one_hot(label, 10).T[None].to(x.dtype))
        centres = [torch.arange(size) + 0.5 for size in x.shape[2:]]
        position = torch.stack(torch.meshgrid(*centres, indexing="ij")).flatten(1)[None]
        query = self.decoder[0](query, tokens, position[:, :, cell], position)
        fields = {name: predict(query) for name, predict in self.prediction_heads[0].named_children()}
        return fields, heatmap, label, cell // x.shape[3], cell % x.shape[3]


def mmdetection3d_names(tensors):
    """Convert mit-han-lab's names to those of mmdetection3d's project BEVFusion."""

    def renamed(name):
        for theirs, other in (
            ("encoders.lidar.backbone.", "pts_middle_encoder."),
            ("encoders.camera.backbone.", "img_backbone."),
            ("encoders.camera.neck.", "img_neck."),
            ("encoders.camera.vtransform.", "view_transform."),
            ("fuser.", "fusion_layer."),
            ("decoder.backbone.", "pts_backbone."),
            ("decoder.neck.", "pts_neck."),
            ("heads.object.", "bbox_head."),
        ):
            if name.startswith(theirs):
                name = other + name.removeprefix(theirs)
        for theirs, other in (
            (".self_attn.", ".self_attn.attn."),
            (".multihead_attn.", ".cross_attn.attn."),
            (".linear1.", ".ffn.layers.0.0."),
            (".linear2.", ".ffn.layers.1."),
            *((f".0.norm{i}.", f".0.norms.{i - 1}.") for i in (1, 2, 3)),
        ):
            name = name.replace(theirs, other)
        return name

    return {renamed(name): tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
@torch.no_grad()
def lidar_frame():
    """Make a network, points, and the network's output for them."""
    net = randomised(
        named(
            encoders=named(lidar=named(backbone=SparseEncoder(CHANNELS, 8, x_first=True))),
            decoder=named(backbone=Second(16, (16, 32), (2, 1), (1, 2)), neck=SecondFpn((16, 32), 16, (1, 2))),
            heads=named(object=TransFusionHead(32, 16, 20, 4, 24)),
        )
    )
    net.heads.object.heatmap_head[1].weight *= 0.02  # scores that differ, instead of many that round to 1
    low, high = torch.tensor([-6.3, -6.3, -4.9, 0, 0]), torch.tensor([6.3, 6.3, 2.9, 255, 0.45])
    points = low + (high - low) * torch.rand(2000, 5)
    cells = ((points[:, [2, 1, 0]] - torch.tensor([-5.0, -EXTENT, -EXTENT])) / 0.2).floor().long()
    voxels, voxel, count = cells.unique(dim=0, return_inverse=True, return_counts=True)
    means = torch.zeros(len(voxels), 5).index_add(0, voxel, points) / count[:, None]
    low_map = net.encoders.lidar.backbone(means, voxels, SHAPE)
    high_map = net.decoder.neck(net.decoder.backbone(low_map))
    return net, points, low_map, high_map, net.heads.object(high_map)


def imported(tensors, config, path):
    # As mmcv's spconv stores them: (kx, ky, kz, in, out).
    tensors = {name: t.permute(1, 2, 3, 4, 0) if t.dim() == 5 else t for name, t in tensors.items()}
    torch.save({"state_dict": tensors}, path)
    model, _, report = import_weights(path, config)
    return model.eval(), report


def assert_near(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=2e-3 * float(theirs.std()), rtol=0)


@pytest.mark.parametrize("convert, old_boxes", [(dict, True), (mmdetection3d_names, False)])
@torch.no_grad()
def test_bevfusions_lidar_network_makes_the_same_proposals_here(config_path, tmp_path, lidar_frame, convert, old_boxes):
    config = load_config(config_path.with_name("bevfusion_teacher.yaml"), LIDAR)
    net, points, low_map, high_map, (theirs, heatmap, label, x, y) = lidar_frame
    model, report = imported(convert(net.state_dict()), config, tmp_path / "c.pth")
    assert not report.missing and not report.unexpected and not report.differing
    out = model(SensorBatch(points, torch.zeros(len(points), dtype=torch.long), 1))
    assert_near(out.features.low, low_map.transpose(2, 3))
    assert_near(out.features.high, high_map.transpose(2, 3))
    assert_near(out.detection.heatmap, heatmap.transpose(2, 3))
    # The same proposals; which of two that score alike comes first is free.
    found = torch.stack([out.detection.label[0], out.detection.cell[0] % 8, out.detection.cell[0] // 8], 1).tolist()
    order = [found.index(proposal) for proposal in torch.stack([label, x, y], 1).tolist()]
    size, heading = theirs["dim"], theirs["rot"]
    if old_boxes:
        size, yaw = size[:, [1, 0, 2]], -torch.atan2(heading[:, 0], heading[:, 1]) - torch.pi / 2
        heading = torch.stack([yaw.sin(), yaw.cos()], dim=1) * heading.norm(dim=1, keepdim=True)
    for field, their in (
        ("logits", theirs["heatmap"]),
        ("offset", theirs["center"]),
        ("height", theirs["height"]),
        ("size", size),
        ("heading", heading),
        ("velocity", theirs["vel"]),
    ):
        assert_near(getattr(out.detection, field)[:, order], their.transpose(1, 2))


class LssFpn(nn.Module):
    """First map of BEVFusion's GeneralizedLSSFPN."""

    def __init__(self, in_channels, channels):
        super().__init__()
        above = (channels, in_channels[2])
        self.lateral_convs = nn.ModuleList(conv_module(in_channels[i] + above[i], channels, 1) for i in (0, 1))
        self.fpn_convs = nn.ModuleList(conv_module(channels, channels) for _ in (0, 1))

    def forward(self, maps):
        x = maps[2]
        for i in (1, 0):
            x = F.interpolate(x, size=maps[i].shape[-2:], mode="bilinear", align_corners=False)
            x = self.fpn_convs[i](self.lateral_convs[i](torch.cat([maps[i], x], dim=1)))
        return x


def layers(*channels, kernels, strides, bias):
    modules = []
    for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        modules += [
            nn.Conv2d(channels[i], channels[i + 1], kernel, stride, padding=kernel // 2, bias=bias),
            nn.BatchNorm2d(channels[i + 1]),
            nn.ReLU(),
        ]
    return nn.Sequential(*modules)


def camera_and_map_network(channels):
    """Make the camera branch without its backbone, with the fusion and the map head."""
    depth = nn.Sequential(*layers(16 + 64, 16, 16, kernels=(3, 3), strides=(1, 1), bias=True), nn.Conv2d(16, 126, 1))
    classifier = nn.Sequential(*layers(32, 32, 32, kernels=(3, 3), strides=(1, 1), bias=False), nn.Conv2d(32, 6, 1))
    return randomised(
        named(
            encoders=named(
                camera=named(
                    neck=LssFpn(channels, 16),
                    vtransform=named(
                        dtransform=layers(1, 8, 32, 64, kernels=(1, 5, 5), strides=(1, 4, 2), bias=True),
                        depthnet=depth,
                        downsample=layers(8, 8, 8, 8, kernels=(3, 3, 3), strides=(1, 2, 1), bias=False),
                    ),
                )
            ),
            fuser=layers(8 + 16, 16, kernels=(3,), strides=(1,), bias=False),
            heads=named(map=named(classifier=classifier)),
        )
    )


@torch.no_grad()
def test_bevfusions_camera_fusion_and_map_layers_compute_the_same_here(config_path, tmp_path):
    config = load_config(config_path.with_name("bevfusion_teacher.yaml"), FUSED)
    backbone = build_model(config).camera.backbone
    net = camera_and_map_network(backbone.channels)
    model, report = imported(net.state_dict(), config, tmp_path / "c.pth")
    assert not report.unexpected and not report.differing
    assert {name.split(".")[1] for name in report.missing if name.startswith("camera.")} == {"backbone"}

    camera, theirs = model.camera, net.encoders.camera
    maps = [torch.randn(2, width, 16 // 2**i, 24 // 2**i) for i, width in enumerate(backbone.channels)]
    assert_near(camera.neck(maps)[0], theirs.neck(maps))
    features, depth = torch.randn(1, 2, 16, 4, 8), 60 * torch.rand(1, 2, 32, 64)
    logits, context = camera.view.depth_net(features, None, depth)
    both = theirs.vtransform.depthnet(torch.cat([theirs.vtransform.dtransform(depth[0][:, None]), features[0]], dim=1))
    assert_near(logits[0], both[:, :118])
    assert_near(context[0], both[:, 118:])

    fine, points, high = torch.randn(1, 8, 16, 16), torch.randn(1, 16, 8, 8), torch.randn(1, 32, 8, 8)
    seen = theirs.vtransform.downsample(fine.transpose(2, 3))
    assert_near(camera.view.downsample(fine), seen.transpose(2, 3))
    fused = net.fuser(torch.cat([seen, points.transpose(2, 3)], dim=1))
    maps, there = {"lidar": points, "camera": seen.transpose(2, 3)}, torch.tensor([True])
    assert_near(model.fusion(maps, {"lidar": there, "camera": there}), fused.transpose(2, 3))
    drawn = net.heads.map.classifier(high.transpose(2, 3)).transpose(2, 3)
    assert_near(model.segmentation.layers(high), drawn)
    # In the LiDAR's frame, whose x is base_link's right and whose y is its front: map cells turn with the axes.
    unframed = load_config(config_path.with_name("bevfusion_teacher.yaml"), FUSED[1:])
    model, _ = imported(net.state_dict(), unframed, tmp_path / "c.pth")
    in_base_link = torch.stack([high[:, :, i, :].flip(-1) for i in range(high.shape[2])], dim=-1)
    expected = torch.stack([drawn[:, :, i, :].flip(-1) for i in range(high.shape[2])], dim=-1)
    assert_near(model.segmentation.layers(in_base_link), expected)


class PatchMerging(nn.Module):
    """Patch merging of mmdetection: the four patches are interleaved channel by channel, as nn.Unfold gives them."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x):
        return self.reduction(self.norm(F.unfold(x, 2, stride=2).transpose(1, 2)))


def swin_block(channels, heads):
    return named(
        norm1=nn.LayerNorm(channels),
        norm2=nn.LayerNorm(channels),
        attn=named(w_msa=named(qkv=nn.Linear(channels, 3 * channels), proj=nn.Linear(channels, channels))),
        ffn=named(
            layers=nn.Sequential(nn.Sequential(nn.Linear(channels, 4 * channels)), nn.Linear(4 * channels, channels))
        ),
    )


@torch.no_grad()
def test_every_tensor_of_mmdetections_swin_finds_its_place_and_patches_merge_alike(config_path, tmp_path):
    config = load_config(config_path.with_name("bevfusion_teacher.yaml"), FUSED)
    stages = nn.ModuleList()
    for i, (depth, heads) in enumerate(((2, 3), (2, 6), (6, 12), (2, 24))):
        stage = named(blocks=nn.ModuleList(swin_block(96 * 2**i, heads) for _ in range(depth)))
        for block in stage.blocks:
            block.attn.w_msa.relative_position_bias_table = nn.Parameter(torch.randn(169, heads))
        if i < 3:
            stage.downsample = PatchMerging(96 * 2**i)
        stages.append(stage)
    swin = randomised(
        named(
            patch_embed=named(projection=nn.Conv2d(3, 96, 4, 4), norm=nn.LayerNorm(96)),
            stages=stages,
            **{f"norm{i}": nn.LayerNorm(96 * 2**i) for i in (1, 2, 3)},
        )
    )
    tensors = {f"encoders.camera.backbone.{name}": tensor for name, tensor in swin.state_dict().items()}
    model, report = imported(tensors, config, tmp_path / "c.pth")
    assert not report.unexpected and not report.differing
    assert not [name for name in report.missing if name.startswith("camera.backbone.")]

    body, x = model.camera.backbone.body.swin, torch.randn(1, 96, 8, 6)
    merged = body.encoder.layers[0].downsample(x.flatten(2).transpose(1, 2), (8, 6))
    assert_near(merged, stages[0].downsample(x))
    block, theirs, tokens = body.encoder.layers[1].blocks[1], stages[1].blocks[1], torch.randn(1, 5, 192)
    attention = block.attention
    projected = [attention.q_proj(tokens), attention.k_proj(tokens), attention.v_proj(tokens)]
    assert_near(torch.cat(projected, dim=-1), theirs.attn.w_msa.qkv(tokens))
    assert torch.equal(
        attention.relative_position_bias.relative_position_bias_table, theirs.attn.w_msa.relative_position_bias_table
    )

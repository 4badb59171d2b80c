"""Import of CenterPoint from both its publishers: same maps here; also the import's report and errors."""

import argparse
import os

import numpy as np
import pytest
import torch
from published_networks import (
    CenterHead,
    CenterPointHead,
    CenterPointRpn,
    CenterPointSparseEncoder,
    Second,
    SecondFpn,
    SparseEncoder,
    named,
    randomised,
)
from safetensors.torch import save_file
from torch import nn

from vexkd_model.cli import main
from vexkd_model.config import load_config
from vexkd_model.data.batch import SensorBatch
from vexkd_model.deploy.package import load_package
from vexkd_model.errors import UserError
from vexkd_model.import_weights.importer import import_weights
from vexkd_model.model import build_model

CHANNELS = (8, 8, 16, 16)
BEV = "bev={kind: second, stage_channels: [16, 32], stage_layers: [3, 2], lateral_channels: 16}"
HEAD = ("detection.shared_channels=8", "detection.task_channels=8", "segmentation=null")
VOXEL_MODEL = (
    "frame={}",  # both are given the same points
    "grid={extent: 6.4, cell: 1.6}",
    "lidar.encoder.voxel=0.2",
    f"lidar.encoder.stage_channels={list(CHANNELS)}",
    "lidar.encoder.channels=8",
    BEV,
    *HEAD,
)
EXTENT, VOXEL, SHAPE = 6.4, (0.2, 0.2, 0.2), (41, 64, 64)
NEW, OLD = "1.0.0rc6", "0.17.1"


class Runs:
    """Object that runs a function when it is unpickled."""

    def __reduce__(self):
        return os.getpid, ()


@pytest.fixture(scope="module")
def voxel_config(config_path):
    return load_config(config_path.with_name("centerpoint_voxel.yaml"), VOXEL_MODEL)


def cloud(seed=0):
    random = torch.Generator().manual_seed(seed)
    low, high = torch.tensor([-6.3, -6.3, -4.9, 0, 0]), torch.tensor([6.3, 6.3, 2.9, 255, 0.45])
    return low + (high - low) * torch.rand(3000, 5, generator=random)


def mean_voxels(points):
    """Average raw points per voxel: means (V, 5) and voxels (V, 3) z, y, x."""
    cells = {}
    for point in points:
        x, y, z = ((point[:3] - torch.tensor([-EXTENT, -EXTENT, -5.0])) / torch.tensor(VOXEL)).floor().int().tolist()
        cells.setdefault((z, y, x), []).append(point)
    return torch.stack([torch.stack(cell).mean(0) for cell in cells.values()]), torch.tensor(list(cells))


def mmdetection3d_network():
    return randomised(
        named(
            pts_middle_encoder=SparseEncoder(CHANNELS, 8),
            pts_backbone=Second(16, (16, 32), (2, 1), (1, 2)),
            pts_neck=SecondFpn((16, 32), 16, (1, 2)),
            pts_bbox_head=CenterHead(32, 8),
        )
    )


def spconv_1(tensors):
    """Reorder weights to spconv 1's and mmcv's (kz, ky, kx, in, out)."""
    return {name: t.permute(1, 2, 3, 4, 0) if t.dim() == 5 else t for name, t in tensors.items()}


def save(path, network, version=None, convert=spconv_1):
    meta = {
        "CLASSES": ["car"],
        "arguments": argparse.Namespace(lr=np.float64(0.1)),
        **({"mmdet3d_version": version} if version else {}),
    }
    torch.save({"meta": meta, "state_dict": convert(network.state_dict())}, path)
    return path


def run(model, points):
    with torch.no_grad():
        return model.eval()(SensorBatch(points, torch.zeros(len(points), dtype=torch.long), 1)).detection


def assert_same_maps(ours, theirs, old_boxes=False):
    """Assert that fields agree within a thousandth of their standard deviation."""
    for our, their in zip(ours, theirs, strict=True):
        size, heading = their["dim"], their["rot"]
        if old_boxes:  # width, length, height; sin and cos of −yaw − π/2
            size = size[:, [1, 0, 2]]
            yaw = -torch.atan2(heading[:, 0], heading[:, 1]) - torch.pi / 2
            heading = torch.stack([yaw.sin(), yaw.cos()], dim=1) * heading.norm(dim=1, keepdim=True)
        expected = (their["heatmap"], their["reg"], their["height"], size, heading, their["vel"])
        for field, value in zip(our[:6], expected, strict=True):
            torch.testing.assert_close(field, value, atol=1e-3 * float(value.std()), rtol=0)


@pytest.mark.parametrize(
    "version, old_boxes, layout", [(NEW, False, spconv_1), (OLD, True, spconv_1), (None, False, dict)]
)
@torch.no_grad()
def test_mmdetection3d_centerpoint_says_the_same_here(voxel_config, tmp_path, version, old_boxes, layout):
    network, points = mmdetection3d_network(), cloud()
    model, _, report = import_weights(save(tmp_path / "c.pth", network, version, layout), voxel_config)
    assert not report.missing and not report.unexpected and not report.differing
    bev = network.pts_neck(network.pts_backbone(network.pts_middle_encoder(*mean_voxels(points), SHAPE)))
    assert_same_maps(run(model, points), network.pts_bbox_head(bev), old_boxes)
    assert ("does not state its version of mmdetection3d" in report.text()) == (version is None)


@torch.no_grad()
def test_centerpoints_own_network_with_its_biases_says_the_same_here(voxel_config, tmp_path):
    network = randomised(
        named(
            backbone=CenterPointSparseEncoder(CHANNELS, 8),
            neck=CenterPointRpn(16, (16, 32), (2, 1), 16),
            bbox_head=CenterPointHead(32, 8),
        )
    )
    points = cloud()
    model, _, report = import_weights(save(tmp_path / "c.pth", network), voxel_config)
    assert not report.missing and not report.unexpected and not report.differing
    theirs = network.bbox_head(network.neck(network.backbone(*mean_voxels(points), SHAPE)))
    assert_same_maps(run(model, points), theirs, old_boxes=True)


def published_pillars(point_net, points, pillar, in_channels):
    """Pool raw points (N, 5) to (1, C, Y, X), the maximum over each pillar, by loops over the pillars."""
    columns = round(2 * EXTENT / pillar)
    canvas = torch.zeros(1, point_net.linear.out_features, columns, columns)
    cells = ((points[:, :2] + EXTENT) / pillar).floor().long()
    for cell in cells.unique(dim=0):
        inside = points[(cells == cell).all(dim=1)]
        centre = torch.cat([(cell + 0.5) * pillar - EXTENT, torch.tensor([-1.0])])
        features = [inside, inside[:, :3] - inside[:, :3].mean(0), (inside[:, :3] - centre)[:, : in_channels - 8]]
        canvas[0, :, cell[1], cell[0]] = point_net.norm(point_net.linear(torch.cat(features, 1))).relu().amax(0)
    return canvas


@pytest.mark.parametrize("in_channels", [11, 10])  # with and without the offset from the pillar's middle in z
@torch.no_grad()
def test_published_pillars_give_the_same_map_where_the_stem_steps_as_theirs(config_path, tmp_path, in_channels):
    config = load_config(
        config_path.with_name("centerpoint_pillar.yaml"),
        (
            "frame={}",
            "grid={extent: 6.4, cell: 1.6}",
            "lidar.encoder.pillar=0.8",
            "lidar.encoder.pillar_channels=8",
            "lidar.encoder.channels=8",
            "lidar.encoder.stem_layers=3",
            *HEAD,
            "bev={kind: second, stage_channels: [8, 16], stage_layers: [1, 3], lateral_channels: 16}",
        ),
    )
    network = randomised(
        named(
            pts_voxel_encoder=named(
                pfn_layers=nn.ModuleList(
                    [named(linear=nn.Linear(in_channels, 8, bias=False), norm=nn.BatchNorm1d(8, eps=1e-3))]
                )
            ),
            pts_backbone=Second(8, (8, 16), (2, 2), (2, 2)),
            pts_neck=SecondFpn((8, 16), 16, (0.5, 1)),
        )
    )
    points = cloud()
    model, _, report = import_weights(save(tmp_path / "c.pth", network, NEW), config)
    model.eval()
    pillars = published_pillars(network.pts_voxel_encoder.pfn_layers[0], points, 0.8, in_channels)
    low = model.lidar(points, torch.zeros(len(points), dtype=torch.long), 1)
    torch.testing.assert_close(low, network.pts_backbone.blocks[0](pillars), atol=1e-3, rtol=1e-3)
    # Published necks bring all stages to the second one's resolution, ours to the first one's.
    assert [d.ours for d in report.differing] == ["bev.laterals.0.0.weight", "bev.laterals.1.0.weight"]
    assert {name.rsplit(".", 2)[0] for name in report.missing if not name.startswith("detection")} == {"bev.stages.0.0"}


def test_a_stem_of_another_stride_is_told(config_path, tmp_path):
    config = load_config(config_path.with_name("centerpoint_pillar.yaml"))
    network = named(pts_backbone=Second(64, (64, 128, 256), (3, 5, 5), (2, 2, 2)))
    _, _, report = import_weights(save(tmp_path / "c.pth", network, NEW), config)
    assert any("steps over 2 pillars, ours over 3" in note for note in report.notes)


def test_the_frame_that_the_weights_know_is_told_and_stated(config_path, tmp_path):
    unframed = load_config(config_path.with_name("centerpoint_voxel.yaml"), VOXEL_MODEL[1:])
    _, config, report = import_weights(save(tmp_path / "c.pth", mmdetection3d_network(), NEW), unframed)
    assert "nuScenes' LiDAR frame (x right, y forward, 1.84 m above" in report.text()
    base_from_network = np.linalg.inv(config.network_from_base)
    ahead, right = base_from_network[:3, 1], base_from_network[:3, 0]
    np.testing.assert_allclose([ahead, right], [[1, 0, 0], [0, -1, 0]], atol=0.03)
    np.testing.assert_allclose(base_from_network[:3, 3], [0.943713, 0, 1.84023], atol=1e-6)


def test_a_frame_of_the_configuration_stays(config_path, tmp_path):
    turned = ("frame={rotation: [0, 0, -90]}", *VOXEL_MODEL[1:])
    own = load_config(config_path.with_name("centerpoint_voxel.yaml"), turned)
    _, config, report = import_weights(save(tmp_path / "c.pth", mmdetection3d_network(), NEW), own)
    assert config == own and "LiDAR frame" not in report.text()


def test_a_head_that_was_not_published_is_left_out(config_path, tmp_path):
    settings = [text.replace("segmentation=null", "segmentation.channels=8") for text in VOXEL_MODEL]
    wanted = load_config(config_path.with_name("centerpoint_voxel.yaml"), settings)
    model, config, report = import_weights(save(tmp_path / "c.pth", mmdetection3d_network(), NEW), wanted)
    assert wanted.segmentation is not None and config.segmentation is None and model.segmentation is None
    assert not report.missing and "They have no segmentation, and the package leaves it out." in report.text()


def test_the_report_names_exactly_what_was_removed_added_and_of_another_shape(voxel_config, tmp_path):
    tensors = mmdetection3d_network().state_dict()
    del tensors["pts_backbone.blocks.1.0.weight"], tensors["pts_bbox_head.task_heads.2.vel.1.bias"]
    tensors["pts_bbox_head.shared_conv.bn.bias"] = torch.zeros(9)
    tensors["pts_middle_encoder.conv_input.0.weight"] = torch.zeros(3, 3, 4, 8)
    tensors["extra.weight"] = torch.zeros(2)
    torch.save({"state_dict": tensors}, tmp_path / "c.pth")
    model, _, report = import_weights(tmp_path / "c.pth", voxel_config)
    assert set(report.missing) == {"bev.stages.1.0.0.weight", "detection.tasks.2.branches.velocity.1.bias"}
    assert report.unexpected == ("extra.weight",)
    assert {(d.ours, d.their_shape) for d in report.differing} == {
        ("detection.shared.1.bias", (9,)),
        ("lidar.stages.0.0.conv.weight", (3, 3, 4, 8)),
    }
    assert torch.equal(model.detection.shared[1].bias, build_model(voxel_config).detection.shared[1].bias)
    trained = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    assert len(report.matched) == len(trained) - 4
    text = report.text()
    assert f"{len(trained) - 4} of {len(trained)} tensors loaded" in text
    assert "1 of the checkpoint were not used:\n  extra.weight" in text
    assert "detection.shared.1.bias (8,): pts_bbox_head.shared_conv.bn.bias (9,)" in text


def test_a_long_list_is_cut_for_the_terminal_and_whole_on_request(voxel_config, tmp_path):
    tensors = {name: t for name, t in mmdetection3d_network().state_dict().items() if name.startswith("pts_backbone.")}
    torch.save({"state_dict": tensors}, tmp_path / "c.pth")
    _, _, report = import_weights(tmp_path / "c.pth", voxel_config)
    assert f"… and {len(report.missing) - 5} more" in report.text()
    assert all(f"  {name}" in report.text(lines=None) for name in report.missing)


def test_a_task_of_other_classes_gets_no_others_weights(voxel_config, tmp_path):
    tasks = [task.model_dump() for task in voxel_config.detection.tasks]
    tasks[1]["classes"] = tasks[1]["classes"][::-1]
    config = voxel_config.model_validate(
        {**voxel_config.model_dump(), "detection": {**voxel_config.detection.model_dump(), "tasks": tasks}}
    )
    _, _, report = import_weights(save(tmp_path / "c.pth", mmdetection3d_network(), NEW), config)
    assert {name.rsplit(".branches", 1)[0] for name in report.missing} == {"detection.tasks.1"}


def test_safetensors_and_a_bare_state_dict_and_a_data_parallel_one_are_read_too(voxel_config, tmp_path):
    tensors = {name: t.contiguous() for name, t in spconv_1(mmdetection3d_network().state_dict()).items()}
    save_file(tensors, tmp_path / "c.safetensors", {"mmdet3d_version": OLD})
    torch.save(tensors, tmp_path / "bare.pth")
    torch.save({"state_dict": {f"module.{name}": t for name, t in tensors.items()}}, tmp_path / "parallel.pth")
    for name, version in (("c.safetensors", OLD), ("bare.pth", None), ("parallel.pth", None)):
        _, _, report = import_weights(tmp_path / name, voxel_config)
        assert not report.missing and not report.unexpected
        assert ("yaw −yaw − π/2" in report.text()) == (version == OLD)


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "no such file"),
        (b"", "damaged"),
        (b"<html>not found</html>", "damaged"),
        ({"state_dict": {}}, "holds no tensors by name"),
        ([torch.zeros(1)], "holds no tensors by name"),
        ({"state_dict": {"a": torch.zeros(1)}, "meta": Runs()}, "would run posix.getpid, which no checkpoint needs"),
        ({"state_dict": {"fc.weight": torch.zeros(2, 2)}}, "of no known family"),
        (
            {"state_dict": {"pts_bbox_head.conv_cls.weight": torch.zeros(2, 2)}},
            "nothing of mmdetection3d's CenterPoint",
        ),
        (
            {
                "state_dict": {
                    "pts_neck.deblocks.0.1.bias": torch.full((16,), torch.nan),
                    "pts_backbone.a": torch.zeros(1),
                }
            },
            "pts_neck.deblocks.0.1.bias: holds numbers that are not finite",
        ),
    ],
)
def test_a_wrong_file_is_one_line(voxel_config, tmp_path, content, says):
    path = tmp_path / "c.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=says) as caught:
        import_weights(path, voxel_config)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_one_line(voxel_config, tmp_path, suffix):
    tensors = {name: t.contiguous() for name, t in mmdetection3d_network().state_dict().items()}
    path = tmp_path / f"c{suffix}"
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"damaged.*download it again"):
        import_weights(path, voxel_config)


def test_the_command_makes_a_package_of_them(config_path, tmp_path, capsys):
    checkpoint = save(tmp_path / "published.pth", mmdetection3d_network(), NEW)
    settings = [word for setting in VOXEL_MODEL for word in ("--set", setting)]
    path = config_path.with_name("centerpoint_voxel.yaml")
    main(["import-weights", str(checkpoint), str(path), str(tmp_path / "package"), *settings])
    said = capsys.readouterr().out
    assert "tensors loaded" in said and f"next: vexkd-student-node --ros-args -p model:={tmp_path}/package" in said
    model, config, card = load_package(tmp_path / "package")
    again, same, report = import_weights(checkpoint, config)
    assert same == config and card.frame == config.frame
    assert card.trained_on["notes"] == list(report.notes) and not report.missing
    points = cloud()
    for ours, theirs in zip(run(model, points), run(again, points), strict=True):
        assert all(map(torch.equal, ours[:6], theirs[:6]))

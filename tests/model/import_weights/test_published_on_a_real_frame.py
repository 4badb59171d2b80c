"""Published CenterPoint on a real keyframe: a package says what the network says in its own LiDAR's frame."""

import json

import numpy as np
import pytest
import torch
from nuscenes.utils.data_classes import Box
from published_networks import CenterHead, Second, SecondFpn, SparseEncoder, named, randomised
from pyquaternion import Quaternion
from shapely import affinity
from shapely.geometry import box as rectangle

from vexkd_model.config import load_config
from vexkd_model.data.sweeps import Sweep, accumulate_sweeps, read_lidar_file
from vexkd_model.deploy.package import save_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.import_weights.importer import import_weights
from vexkd_model.types import DETECTION_CLASSES, Frame

CHANNELS, EXTENT, VOXEL, CELL = (8, 8, 16, 16), 38.4, np.array([0.8, 0.8, 0.2]), 6.4
SHAPE = (41, 96, 96)
MODEL = (
    f"grid={{extent: {EXTENT}, cell: {CELL}}}",
    "lidar.encoder.voxel=0.8",
    f"lidar.encoder.stage_channels={list(CHANNELS)}",
    "lidar.encoder.channels=8",
    "bev={kind: second, stage_channels: [16, 32], stage_layers: [3, 2], lateral_channels: 16}",
    "detection.shared_channels=8",
    "detection.task_channels=8",
)
TASKS = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)
LIKELY = {"heatmap": (-2.0, 1.5), "reg": (0.5, 0.2), "height": (-1.0, 0.5), "dim": (0.8, 0.4), "vel": (0.0, 3.0)}


def lidar_record(root):
    """Read the points and calibration of the keyframe: points (N, 5) of the sensor, rotation, translation."""
    tables = root / "v1.0-mini"
    data = json.loads((tables / "sample_data.json").read_text())
    sweep = next(row for row in data if "LIDAR_TOP" in row["filename"])
    poses = json.loads((tables / "calibrated_sensor.json").read_text())
    pose = next(row for row in poses if row["token"] == sweep["calibrated_sensor_token"])
    return read_lidar_file(root / sweep["filename"]), Quaternion(pose["rotation"]), np.array(pose["translation"])


def mean_voxels(points):
    """Average points (N, 5) of the LiDAR per voxel: means (V, 5), voxels (V, 3) z, y, x."""
    cell = np.floor((points[:, :3].astype(float) - [-EXTENT, -EXTENT, -5.0]) / VOXEL).astype(int)[:, ::-1]
    inside = ((cell >= 0) & (cell < [40, *SHAPE[1:]])).all(axis=1)
    voxels, voxel, count = np.unique(cell[inside], axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros((len(voxels), 5))
    np.add.at(sums, voxel.ravel(), points[inside].astype(float))
    return torch.from_numpy(sums / count[:, None]).float(), torch.from_numpy(voxels)


def sure_of_itself(head, bev):
    """Scale and shift the last layers, so that boxes of likely sizes have scores between 0 and 1."""
    x = head.shared_conv(bev)
    for task in head.task_heads:
        for name, branch in task.named_children():
            mean, deviation = LIKELY.get(name, (0.0, 1.0))
            out = branch(x)
            scale = deviation / out.std((0, 2, 3))
            branch[1].weight.mul_(scale[:, None, None, None])
            branch[1].bias.copy_((branch[1].bias - out.mean((0, 2, 3))) * scale + mean)


def footprint(row):
    x, y, _, length, width, _, yaw = row[:7]
    outline = affinity.rotate(rectangle(-length / 2, -width / 2, length / 2, width / 2), yaw, (0, 0), use_radians=True)
    return affinity.translate(outline, x, y)


def published_boxes(maps):
    """Decode as published, in the LiDAR's frame: boxes (M, 9), scores and names, best first."""
    found = []
    for names, task in zip(TASKS, maps, strict=True):
        scores = task["heatmap"][0].sigmoid().flatten()
        kept = []
        for index in scores.argsort(descending=True)[:1000].tolist():
            if scores[index] < 0.1 or len(kept) == 83:
                break
            channel, cell = divmod(index, 12 * 12)
            row, column = divmod(cell, 12)
            of_cell = {name: task[name][0, :, row, column].double().numpy() for name in task}
            centre = (np.array([column, row]) + of_cell["reg"]) * CELL - EXTENT
            yaw = np.arctan2(*of_cell["rot"])
            values = [*centre, *of_cell["height"], *np.exp(of_cell["dim"]), yaw, *of_cell["vel"]]
            outline = footprint(values)
            if all(outline.intersection(o).area <= 0.2 * outline.union(o).area for _, _, _, o in kept):
                kept.append((values, float(scores[index]), names[channel], outline))
        found += kept
    return sorted(((values, score, name) for values, score, name, _ in found), key=lambda one: -one[1])


def in_base_link(values, rotation, translation):
    """Move a box (9,) of the LiDAR's frame by its calibration, as nuScenes' evaluation does."""
    x, y, z, length, width, height, yaw, vx, vy = values
    turn = Quaternion(axis=(0, 0, 1), radians=yaw)
    box = Box([x, y, z], [width, length, height], turn, velocity=(vx, vy, 0))
    box.rotate(rotation)
    box.translate(translation)
    ahead = box.orientation.rotation_matrix[:, 0]
    return np.array([*box.center, length, width, height, np.arctan2(ahead[1], ahead[0]), *box.velocity[:2]])


@torch.no_grad()
def test_a_package_says_the_published_networks_boxes_to_a_centimetre(keyframe_dataroot, config_path, tmp_path):
    points, rotation, translation = lidar_record(keyframe_dataroot)
    # To odd halves of a millimetre: no point lies on the border of two voxels, where rounding would choose.
    xyz = (np.floor(points[:, :3] * 1e3) + 0.5) / 1e3
    points = np.column_stack([xyz, points[:, 3], np.zeros(len(points))]).astype(np.float32)
    network = randomised(
        named(
            pts_middle_encoder=SparseEncoder(CHANNELS, 8),
            pts_backbone=Second(16, (16, 32), (2, 1), (1, 2)),
            pts_neck=SecondFpn((16, 32), 16, (1, 2)),
            pts_bbox_head=CenterHead(32, 8),
        )
    )
    bev = network.pts_neck(network.pts_backbone(network.pts_middle_encoder(*mean_voxels(points), SHAPE)))
    sure_of_itself(network.pts_bbox_head, bev)
    maps = network.pts_bbox_head(bev)
    expected = published_boxes(maps)
    assert len(expected) > 50 and expected[0][1] > 0.5

    torch.save({"meta": {"mmdet3d_version": "1.0.0"}, "state_dict": network.state_dict()}, tmp_path / "published.pth")
    config = load_config(config_path.with_name("centerpoint_voxel.yaml"), MODEL)
    model, config, report = import_weights(tmp_path / "published.pth", config)
    assert not report.missing and not report.unexpected and not report.differing
    save_package(tmp_path / "package", model, config, {}, {}, "test")

    base_from_lidar = rotation.transformation_matrix
    base_from_lidar[:3, 3] = translation
    frame = Frame(accumulate_sweeps([Sweep(points[:, :4], 0, base_from_lidar, np.eye(4))]), 0)
    found = Predictor.load(tmp_path / "package").predict(frame)
    for values, score, name in expected[:50]:
        truth = in_base_link(values, rotation, translation)
        same = found.boxes.labels == DETECTION_CLASSES.index(name)
        assert same.any()
        error = found.boxes.values[same] - truth
        error[:, 6] = np.angle(np.exp(1j * error[:, 6]))
        nearest = np.abs(error[:, :2]).max(axis=1).argmin()
        assert np.abs(error[nearest]).max() < 0.01, (name, error[nearest])
        assert found.scores[same][nearest] == pytest.approx(score, abs=0.005)

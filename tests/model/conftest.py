"""Data that many tests look at: a hand-made dataset, and a real keyframe where the machine has one."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare

# The same examples on every run: a failure is the change's, never the day's.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

REPOSITORY = Path(__file__).parents[2]
# The shipped configuration, shrunk until a training step takes tens of milliseconds.
TINY_MODEL = (
    "lidar.sweeps=3",
    "lidar.sweep_interval=null",
    "lidar.encoder.age_groups=1",
    "grid={extent: 54.0, cell: 1.8}",
    "lidar.encoder.pillar=1.8",
    "lidar.encoder.pillar_channels=16",
    "lidar.encoder.channels=16",
    "bev={kind: second, stage_channels: [16, 16], stage_layers: [1, 1], lateral_channels: 16}",
    "detection.shared_channels=16",
    "detection.task_channels=16",
    "segmentation.channels=8",
    "training.epochs=5",
    "training.batch_size=1",
    "training.precision=float32",
    "training.sensor_variety=null",
    "training.augment={rotation: 0.785, scale: 0.1, translation: 0.5, flip: true}",
)

# A shipped teacher on a coarse grid, with narrow layers; with the paper's encoder and head, whatever the small one has.
TINY_TEACHER = (
    "lidar={sweeps: 2, encoder: {kind: voxel, voxel: 0.45, voxel_z: 0.4, z_min: -5.0, z_max: 3.0, "
    "stage_channels: [8, 8, 8], channels: 4}}",
    "grid={extent: 54.0, cell: 1.8}",
    "camera.images.width=128",
    "camera.images.height=48",
    "camera.view.neck_channels=16",
    "camera.view.channels=16",
    "fusion.channels=16",
    "bev={kind: second, stage_channels: [16, 16], stage_layers: [1, 1], lateral_channels: 16}",
    "detection={kind: transfusion, channels: 16, proposals: 20, heads: 4, feedforward: 16, dropout: 0.1, "
    "loss_weight: 1.0, score_threshold: 0.0, max_detections: 100}",
    "segmentation.channels=8",
    "training.epochs=2",
    "training.batch_size=1",
    "training.precision=float32",
    "training.sensor_dropout=0.0",
)


@pytest.fixture(scope="session")
def tiny_dataroot(tmp_path_factory):
    return write_tiny_nuscenes(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_index_dir(tiny_dataroot, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    prepare(tiny_dataroot, "v1.0-mini", folder)
    return folder


@pytest.fixture(scope="session")
def tiny_index(tiny_index_dir):
    return FrameIndex.open(tiny_index_dir, "mini_train")


@pytest.fixture(scope="session")
def config_path():
    return REPOSITORY / "config" / "model" / "lidar_pillar_small.yaml"


@pytest.fixture(scope="session")
def tiny_settings():
    """What `--set` makes a tiny model of the shipped configuration with."""
    return TINY_MODEL


@pytest.fixture(scope="session")
def tiny_config(config_path, tiny_settings):
    return load_config(config_path, tiny_settings)


@pytest.fixture(scope="session")
def tiny_teacher():
    """What `--set` makes a tiny teacher of either shipped one with, on the grid of the tiny student."""
    return TINY_TEACHER


@pytest.fixture
def one_thread():
    """PyTorch on one thread: small layers lose time on more wherever the machine has other work, and spconv's CPU build
    loses a row now and then, because its threads share the pointers that they add with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

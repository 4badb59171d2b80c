"""The table of docs/models.md says of every small configuration what becomes a graph; each is really exported."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from vexkd_model.config import load_config
from vexkd_model.data.dataset import load_frame
from vexkd_model.deploy.add_graphs import add_graphs
from vexkd_model.deploy.card import read_card
from vexkd_model.deploy.graph import IMAGES, TRUNK
from vexkd_model.deploy.package import save_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.deploy.runtimes import is_installed
from vexkd_model.errors import UserError
from vexkd_model.model import build_model

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs" / "models.md").read_text()
SECTION = PAGE.partition("\n## Which model runs in which runtime\n")[2].partition("\n## ")[0]
CONFIGURATIONS = sorted(path.stem for path in (REPOSITORY / "config" / "model").glob("*_small.yaml"))
SMALLEST = (
    "grid={extent: 54.0, cell: 1.8}",
    "bev={kind: second, stage_channels: [8, 8], stage_layers: [1, 1], lateral_channels: 8}",
    "segmentation.channels=8",
)
SMALLEST_OF = {
    "pillar": ("lidar.encoder.pillar=1.8",),
    "voxel": ("lidar.encoder.voxel=0.45", "lidar.encoder.stage_channels=[8, 8, 8]"),
    "camera": ("camera.images.width=64", "camera.images.height=32"),
}
SLOW = ("lidar_voxel_small", "bevdet4d_depth_small", "bevformer_small")


def rows():
    """Rows of the section's table, by configuration."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", SECTION, re.M)]
    return {row[0].strip("`"): row[1:] for row in cells if row[0].strip("`") in CONFIGURATIONS}


def smallest(name):
    path = REPOSITORY / "config" / "model" / f"{name}.yaml"
    config = load_config(path)
    parts = [config.lidar.encoder.kind] if config.lidar else []
    parts += ["camera"] if config.camera else []
    return load_config(path, [*SMALLEST, *(setting for part in parts for setting in SMALLEST_OF[part])])


def exported_graphs(folder, index):
    """Names of the graphs that `vexkd graph` adds, none where it refuses."""
    try:
        add_graphs(folder, index, "float32", frames=1)
    except UserError:
        return []
    return sorted(read_card(folder)[1].graphs)


def test_every_small_configuration_is_in_the_table():
    assert sorted(rows()) == CONFIGURATIONS


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CONFIGURATIONS]
)
def test_the_table_says_which_graphs_a_model_has_and_they_predict_the_same(name, tiny_index, tmp_path):
    torch.manual_seed(3)
    config = smallest(name)
    save_package(tmp_path / name, build_model(config), config, trained_on={}, metrics={}, source_revision="test")
    exact, frame = Predictor.load(tmp_path / name), load_frame(tiny_index, 0, config)
    graphs = exported_graphs(tmp_path / name, tiny_index)
    trunk, images, reason = rows()[name]
    assert (trunk, images) == tuple("yes" if graph in graphs else "no" for graph in (TRUNK, IMAGES)), graphs
    assert reason
    expected = exact.predict(frame).map_probabilities
    assert expected.std() > 0
    for runtime in ("onnx", "openvino") if graphs else ():
        if is_installed(runtime):
            found = Predictor.load(tmp_path / name, runtime=runtime).predict(frame)
            np.testing.assert_allclose(found.map_probabilities, expected, atol=1e-4)

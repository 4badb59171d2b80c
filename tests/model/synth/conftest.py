"""Two synthetic scenes, one of each split, that the tests of this folder share."""

from pathlib import Path

import pytest
import torch
from nuscenes.nuscenes import NuScenes

from vexkd_model.synth import PRESETS, synthesise

PRESET = "bench-small"
SEED = 3
TRAIN_SCENE = PRESETS[PRESET].splits["train"][1]
VAL_SCENE = PRESETS[PRESET].splits["val"][0]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Run PyTorch in one thread: waiting threads on a busy machine cost more than they bring to arrays this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a dataset of one train and one val scene in one process."""
    out = tmp_path_factory.mktemp("synth") / "dataset"
    synthesise(out, PRESET, SEED, scenes=[TRAIN_SCENE, VAL_SCENE])
    return out


@pytest.fixture(scope="session")
def nusc(dataset: Path) -> NuScenes:
    return NuScenes(PRESETS[PRESET].version, str(dataset), verbose=False)

"""Whole student: shapes, batches and determinism."""

import numpy as np
import pytest
import torch

from vexkd_model.data.batch import SensorBatch
from vexkd_model.model import build_model
from vexkd_model.types import DETECTION_CLASSES


@pytest.fixture(scope="module")
def student(tiny_config):
    torch.manual_seed(0)
    return build_model(tiny_config).eval()


def cloud(count, seed):
    random = np.random.default_rng(seed)
    points = random.uniform([-50, -50, -2, 0, 0], [50, 50, 2, 255, 0.2], (count, 5))
    return torch.from_numpy(points.astype(np.float32))


@torch.no_grad()
def run(student, *clouds):
    sample = torch.cat([torch.full((len(c),), i) for i, c in enumerate(clouds)])
    return student(SensorBatch(torch.cat(clouds), sample, len(clouds)))


def test_both_bev_levels_lie_on_the_models_grid_and_the_map_on_its_own(student, tiny_config):
    output = run(student, cloud(500, 0), cloud(300, 1))
    assert output.features.low.shape == (2, tiny_config.lidar.encoder.channels, 60, 60)
    assert output.features.high.shape == (2, 2 * 16, 60, 60)
    assert output.segmentation.shape == (2, 6, 200, 200)
    classes = [len(task.classes) for task in tiny_config.detection.tasks]
    assert [maps.heatmap.shape[1] for maps in output.detection] == classes


def test_a_batch_equals_its_samples_one_by_one(student):
    clouds = [cloud(500, 0), cloud(0, 1), cloud(1, 2)]
    together = run(student, *clouds)
    for i, alone in enumerate(clouds):
        single = run(student, alone)
        torch.testing.assert_close(together.segmentation[i], single.segmentation[0], atol=1e-4, rtol=1e-4)
        for maps, own in zip(together.detection, single.detection, strict=True):
            for field, own_field in zip(maps, own, strict=True):
                torch.testing.assert_close(field[i], own_field[0], atol=1e-4, rtol=1e-4)


def test_the_same_cloud_gives_the_same_answer_bit_for_bit(student):
    first, second = run(student, cloud(2000, 3)), run(student, cloud(2000, 3))
    assert torch.equal(first.segmentation, second.segmentation)


def test_tasks_name_each_class_once(tiny_config):
    ids = [i for task in tiny_config.detection.class_ids() for i in task]
    assert sorted(ids) == list(range(len(DETECTION_CLASSES)))
    second = tiny_config.detection.tasks[1].classes
    assert [DETECTION_CLASSES[i] for i in tiny_config.detection.class_ids()[1]] == list(second)

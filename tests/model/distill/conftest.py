"""Tiny teacher with modality-general fusion, a tiny student, and frames for both."""

import pytest
import torch

from vexkd_model.config import load_config
from vexkd_model.config.distill import DistillationConfig
from vexkd_model.data.batch import collate_for
from vexkd_model.data.distillation_dataset import DistillationDataset, collate_pairs
from vexkd_model.data.loader import training_set
from vexkd_model.distill.teacher import Teacher
from vexkd_model.model import build_model

TINY_MASKS = {"mask_blocks": 2, "mask_heads": 2, "mask_points": 2, "mask_feedforward": 16}


@pytest.fixture(scope="session")
def teacher_config(config_path, tiny_teacher):
    return load_config(config_path.with_name("vexkd_teacher_small.yaml"), tiny_teacher)


@pytest.fixture(scope="session")
def student_config(tiny_config):
    return tiny_config.model_copy(update={"distillation": DistillationConfig(**TINY_MASKS)})


@pytest.fixture
def teacher(teacher_config):
    torch.manual_seed(3)
    return Teacher(build_model(teacher_config), teacher_config)


@pytest.fixture(scope="session")
def pair_batch(tiny_index):
    """Function of a student's and a teacher's configuration: a batch of two frames that both see."""

    def make(student, teacher):
        pairs = DistillationDataset(
            *(training_set(config, tiny_index, student.training) for config in (student, teacher))
        )
        return collate_pairs([pairs[0, 0], pairs[0, 1]], collate_for(student), collate_for(teacher))

    return make


@pytest.fixture(scope="session")
def batch(student_config, teacher_config, pair_batch):
    return pair_batch(student_config, teacher_config)

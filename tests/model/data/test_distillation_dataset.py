"""What student and teacher see of a sample: the same moment under the same augmentation; and sensors that drop out."""

import numpy as np
import pytest
import torch

from vexkd_model.config import load_config
from vexkd_model.data.batch import collate_for
from vexkd_model.data.distillation_dataset import DistillationDataset, collate_pairs
from vexkd_model.data.loader import training_loader, training_set
from vexkd_model.errors import UserError


@pytest.fixture(scope="module")
def teacher_config(config_path, tiny_teacher):
    return load_config(config_path.with_name("vexkd_teacher_small.yaml"), (*tiny_teacher, "lidar.sweeps=3"))


def with_dropout(config, share):
    return config.model_copy(update={"training": config.training.model_copy(update={"sensor_dropout": share})})


def test_student_and_teacher_are_augmented_alike(tiny_config, teacher_config, tiny_index):
    pairs = DistillationDataset(
        *(training_set(config, tiny_index, tiny_config.training) for config in (tiny_config, teacher_config))
    )
    assert len(pairs) == len(tiny_index)
    for epoch in (0, 1):
        student, teacher = pairs[epoch, 1]
        np.testing.assert_array_equal(student.frame.points, teacher.frame.points)
        np.testing.assert_array_equal(student.boxes.values, teacher.boxes.values)
        assert not student.frame.cameras and len(teacher.frame.cameras) == 6
    assert not np.array_equal(pairs[0, 1][0].frame.points, pairs[1, 1][0].frame.points)


def test_a_batch_carries_what_each_of_them_reads(tiny_config, teacher_config, tiny_index):
    batch = next(iter(training_loader(tiny_config, tiny_index, workers=0, teacher=teacher_config)))
    assert batch.sensors.cameras is None and batch.teacher.cameras.images.shape == (1, 6, 3, 48, 128)
    assert torch.equal(batch.teacher.points, batch.sensors.points) and batch.teacher.size == 1
    assert next(iter(training_loader(tiny_config, tiny_index, workers=0))).teacher is None
    assert batch.to("meta").teacher.points.is_meta


def test_an_error_of_either_takes_the_place_of_the_batch(tiny_config, teacher_config, tiny_index):
    student, teacher = (
        training_set(config, tiny_index, tiny_config.training)[0, 0] for config in (tiny_config, teacher_config)
    )
    collates = {"student": collate_for(tiny_config), "teacher": collate_for(teacher_config)}
    error = UserError("file: unreadable")
    for pair in ((error, teacher), (student, error)):
        assert collate_pairs([pair], **collates) is error


def test_a_share_of_the_samples_loses_either_sensor_and_never_both(teacher_config, tiny_index):
    seen = {}
    for share in (0.0, 0.5, 1.0):
        data = training_set(teacher_config, tiny_index, with_dropout(teacher_config, share).training)
        frames = [data[epoch, 0].frame for epoch in range(40)]
        seen[share] = [(bool(len(frame.points)), bool(frame.cameras)) for frame in frames]
    assert set(seen[0.0]) == {(True, True)}
    assert set(seen[1.0]) == {(True, False), (False, True)}
    assert set(seen[0.5]) == {(True, True), (True, False), (False, True)}
    whole = seen[0.5].count((True, True))
    assert 10 <= whole <= 30  # of 40, for a share of a half
    # What is left of a sample is as it was: dropout has random numbers of its own.
    kept = [(a, b) for a, b in zip(seen[0.5], seen[1.0], strict=True) if a != (True, True)]
    assert all(a == b for a, b in kept)


def test_dropout_belongs_to_models_of_two_sensors(config_path):
    with pytest.raises(UserError, match=r"training\.sensor_dropout is for models with lidar and camera"):
        load_config(config_path, ["training.sensor_dropout=0.1"])

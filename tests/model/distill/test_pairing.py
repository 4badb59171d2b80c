"""Pairs of teacher and student that cannot work are refused in one line that names the key."""

import pytest

from vexkd_model.config import load_config
from vexkd_model.config.distill import DistillationConfig
from vexkd_model.config.frame import FrameConfig
from vexkd_model.config.section import GridConfig
from vexkd_model.config.training import PasteConfig
from vexkd_model.distill.pairing import check_pairing
from vexkd_model.errors import UserError


def changed(config, **distillation):
    return config.model_copy(update={"distillation": DistillationConfig(**distillation)})


def refused(student, teacher, message):
    with pytest.raises(UserError, match=message) as error:
        check_pairing(student, teacher)
    assert "\n" not in str(error.value)


def test_the_shipped_students_fit_the_shipped_teachers_of_their_size(config_path):
    names = {
        "vexkd_teacher_small": ("lidar_pillar_small", "lidar_voxel_small", "bevdet_small", "bevdet4d_depth_small"),
        "vexkd_teacher": ("centerpoint_pillar", "centerpoint_voxel", "bevdet_r50", "bevdet4d_depth_r50", "bevformer_s"),
    }
    for teacher, students in names.items():
        for student in students:
            pair = [
                load_config(config_path.with_name(f"{name}.yaml"), ["training.paste=null"])
                for name in (student, teacher)
            ]
            assert check_pairing(*pair) == pair[0].distillation


def test_grids_that_differ(student_config, teacher_config):
    other = student_config.model_copy(update={"grid": GridConfig(extent=54.0, cell=0.9)})
    refused(other, teacher_config, r"grid: the student's is ±54 m at 0\.9 m, the teacher's ±54 m at 1\.8 m")


def test_frames_that_differ(student_config, teacher_config):
    of_lidar = FrameConfig(translation=(0.9, 0.0, 1.8), rotation=(0.0, 0.0, -90.0))
    there = student_config.model_copy(update={"frame": of_lidar})
    refused(
        there,
        teacher_config,
        r"^frame: the student's is \{translation: \[0\.9, 0\.0, 1\.8\], .*the teacher's base_link; .*both the same",
    )
    check_pairing(there, teacher_config.model_copy(update={"frame": of_lidar}))


def test_query_masks_of_a_teacher_without_queries(student_config, config_path, tiny_teacher):
    concatenating = load_config(config_path.with_name("bevfusion_teacher_small.yaml"), tiny_teacher)
    refused(student_config, concatenating, r"distillation\.masks: fusion_queries needs .* bevfusion_teacher_small")
    check_pairing(changed(student_config, masks="random_queries"), concatenating)


@pytest.mark.parametrize("masks", ["gaussian", "key_points"])
def test_masks_around_boxes_without_a_detection_task(student_config, teacher_config, masks):
    without = changed(student_config, masks=masks).model_copy(update={"detection": None})
    refused(without, teacher_config, rf"distillation\.masks: {masks} looks at boxes")


def test_a_configuration_that_says_nothing_of_distillation(tiny_config, teacher_config):
    refused(tiny_config.model_copy(update={"distillation": None}), teacher_config, "distillation: is null")


def test_objects_pasted_into_points_that_a_teachers_cameras_do_not_see(student_config, teacher_config):
    pasting = PasteConfig(objects={"car": 2}, min_points=5, off_for_last_epochs=1)
    training = student_config.training.model_copy(update={"paste": pasting})
    refused(student_config.model_copy(update={"training": training}), teacher_config, r"set training\.paste=null")


def test_a_level_named_twice_and_an_unknown_mask_are_errors_of_the_configuration(config_path):
    with pytest.raises(UserError, match=r"distillation: .*names a level twice"):
        load_config(config_path, ["distillation.levels=[low, low]"])
    with pytest.raises(UserError, match=r"distillation\.masks: "):
        load_config(config_path, ["distillation.masks=everything"])

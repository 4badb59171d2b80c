"""Which teacher can teach which student, and with which masks."""

from vexkd_model.config import EXAMPLE, ModelConfig
from vexkd_model.config.distill import BOX_MASKS, DistillationConfig
from vexkd_model.config.fusion import ModalityGeneralFusionConfig
from vexkd_model.distill.inherit_check import check_inherit
from vexkd_model.errors import UserError


def check_pairing(student: ModelConfig, teacher: ModelConfig) -> DistillationConfig:
    """How this student is taught by this teacher, or a UserError that names the key which forbids it."""
    settings = student.distillation
    if settings is None:
        raise UserError(f"{student.name}: distillation: is null; describe it, as {EXAMPLE} does")
    if student.grid != teacher.grid:
        raise UserError(f"grid: the student's is {_said(student)}, the teacher's {_said(teacher)}; "
                        "distillation compares cell by cell, give both the same")
    if settings.levels:
        _check_masks(settings, student, teacher)
    if student.training.paste is not None and teacher.camera is not None:
        raise UserError(f"training.paste: puts objects into points only, and the teacher {teacher.name} sees images, "
                        "too; set training.paste=null")
    check_inherit(settings.inherit, student, teacher)
    return settings


def _check_masks(settings: DistillationConfig, student: ModelConfig, teacher: ModelConfig) -> None:
    if settings.masks == "fusion_queries" and not isinstance(teacher.fusion, ModalityGeneralFusionConfig):
        raise UserError(f"distillation.masks: fusion_queries needs a teacher with fusion.kind modality_general, and "
                        f"{teacher.name} has no queries; choose random_queries, or another teacher")
    if settings.masks in BOX_MASKS and student.detection is None:
        raise UserError(f"distillation.masks: {settings.masks} looks at boxes, and {student.name} detects none; "
                        "choose fusion_queries, random_queries, ones or activation")


def _said(config: ModelConfig) -> str:
    return f"±{config.grid.extent:g} m at {config.grid.cell:g} m"

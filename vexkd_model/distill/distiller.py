"""Masked feature distillation: what a student learns from a teacher's BEV maps, and masks from both.

Source: VeXKD (NeurIPS 2024): the student minimises L_task + λ · L_masKD, the masks L_task^masked + μ · L_masKD.
"""

import torch
from torch import Tensor, nn

from vexkd_model.config.distill import DistillationConfig
from vexkd_model.data.batch import Batch
from vexkd_model.distill.feature_loss import FeatureLoss
from vexkd_model.distill.fixed_masks import MaskFunction, activation, gaussian, key_points, ones
from vexkd_model.distill.learned_masks import LearnedMasks
from vexkd_model.distill.teacher import Teacher
from vexkd_model.errors import UserError
from vexkd_model.model import BevFeatures, BevModel


class Distiller(nn.Module):
    """The student's maps of a Batch → weighted loss terms by name, whose sum is minimised.

    Holds what learns beside the student and is left behind: masks, and adapters of channels. The teacher is no part of
    it.
    """

    def __init__(self, config: DistillationConfig, student: BevModel, teacher: Teacher) -> None:
        super().__init__()
        self.config, self.teacher = config, teacher
        of_student, of_teacher = channels_of(student), channels_of(teacher.model)
        self.losses = nn.ModuleDict({
            level: FeatureLoss(config.loss, of_student[level], of_teacher[level]) for level in config.levels})
        self.masks = build_masks(config, teacher, {level: of_teacher[level] for level in config.levels})
        self.learning_masks = config.learns_masks
        self.drawn: dict[str, Tensor] = {}

    def forward(self, student: BevFeatures, batch: Batch) -> dict[str, Tensor]:
        if not self.config.asks_teacher:
            return {}
        taught = self.teacher(batch)
        terms: dict[str, Tensor] = {}
        for level in self.config.levels:
            teacher_map = getattr(taught.features, level)
            with torch.set_grad_enabled(self.learning_masks):
                mask = self.masks(level, taught.query, teacher_map, batch.boxes)
            self.drawn[level] = mask.detach()
            for_student, for_mask = self.losses[level](getattr(student, level), teacher_map, mask)
            terms[f"distill_{level}"] = self.config.weight * for_student
            if self.learning_masks:
                terms[f"mask_{level}"] = self.config.mask_weight * for_mask
                terms[f"mask_task_{level}"] = self.teacher.task_loss(level, mask * teacher_map, batch)
        return terms

    def halt_masks(self) -> None:
        """From now on learned masks stay as they are."""
        self.learning_masks = False
        self.masks.requires_grad_(False)


def channels_of(model: BevModel) -> dict[str, int]:
    """Channels of the model's map of each level."""
    return {"low": (model.fusion or model.camera or model.lidar).channels, "high": model.bev.channels}


def build_masks(config: DistillationConfig, teacher: Teacher,
                map_channels: dict[str, int]) -> LearnedMasks | MaskFunction:
    """map_channels: of the teacher's map of each level that is distilled."""
    match config.masks:
        case "fusion_queries" | "random_queries":
            channels = (teacher.model.fusion or teacher.model.bev).channels
            if channels % config.mask_heads:
                raise UserError(f"distillation.mask_heads: {config.mask_heads} heads cannot share {channels} channels, "
                                f"those of {teacher.config.name}'s queries, evenly")
            return LearnedMasks(teacher.grid, map_channels, channels, config.mask_blocks, config.mask_heads,
                                config.mask_points, config.mask_feedforward, config.masks == "random_queries")
        case "ones":
            return ones
        case "key_points":
            return key_points(teacher.grid)
        case "gaussian":
            return gaussian(teacher.grid)
        case "activation":
            return activation

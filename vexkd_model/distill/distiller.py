"""Masked feature distillation: loss terms of a student, and of the masks, from a teacher's BEV maps.

Source: VeXKD (NeurIPS 2024): the student minimises L_task + λ · L_masKD, the masks L_task^masked + μ · L_masKD.
"""

from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import assert_never

from vexkd_model.config.distill import DistillationConfig
from vexkd_model.config.heads import CenterHeadConfig
from vexkd_model.criterion import Criterion
from vexkd_model.data.batch import Batch
from vexkd_model.distill.feature_loss import FeatureLoss
from vexkd_model.distill.fixed_masks import MaskFunction, activation, gaussian, key_points, ones
from vexkd_model.distill.learned_masks import LearnedMasks
from vexkd_model.distill.relation import relation_loss
from vexkd_model.distill.response import depth_response, heatmap_response, heatmaps, map_response, true_heatmaps
from vexkd_model.distill.teacher import Teacher, TeacherOutput
from vexkd_model.distill.teacher_labels import add_teacher_labels, label_decoder
from vexkd_model.errors import UserError
from vexkd_model.model import BevFeatures, BevModel, ModelOutput


class Distiller(nn.Module):
    """Loss of a distillation: the student's BEV maps and the Batch → weighted terms by name, whose sum is minimised.

    Holds the parameters that are trained beside the student and then discarded: masks, and adapters of channels. The
    teacher is no submodule. criterion: the student's, for teacher labels.
    """

    def __init__(self, config: DistillationConfig, student: BevModel, teacher: Teacher, criterion: Criterion) -> None:
        super().__init__()
        self.config, self.teacher, self.criterion = config, teacher, criterion
        labels = config.teacher_labels
        self.label_decoder = label_decoder(teacher.decoder, labels.score) if labels and teacher.decoder else None
        student_channels, teacher_channels = channels_of(student), channels_of(teacher.model)
        self.losses = nn.ModuleDict(
            {
                level: FeatureLoss(config.loss, student_channels[level], teacher_channels[level])
                for level in config.levels
            }
        )
        self.masks = build_masks(config, teacher, {level: teacher_channels[level] for level in config.levels})
        self.learning_masks = config.learns_masks
        self.drawn: dict[str, Tensor] = {}

    def forward(
        self, student: BevFeatures, batch: Batch, output: ModelOutput | None = None, progress: float = 1.0
    ) -> dict[str, Tensor]:
        """Compute the scalar terms.

        student: maps (B, C, Y, X) of both levels. output: for terms on more than the maps. progress: share of the
        training that is done, as the criterion takes it.
        """
        if not self.config.needs_teacher:
            return {}
        target = self.teacher(batch, self.config.needs_heads)
        terms: dict[str, Tensor] = {}
        for level in self.config.levels:
            teacher_map = getattr(target.features, level)
            with torch.set_grad_enabled(self.learning_masks):
                mask = self.masks(level, target.query, teacher_map, batch.boxes)
            self.drawn[level] = mask.detach()
            for_student, for_mask = self.losses[level](getattr(student, level), teacher_map, mask)
            terms[f"distill_{level}"] = self.config.weight * for_student
            if self.learning_masks:
                terms[f"mask_{level}"] = self.config.mask_weight * for_mask
                terms[f"mask_task_{level}"] = self.teacher.task_loss(level, mask * teacher_map, batch)
        return terms | self._further_terms(output, target, batch, progress)

    def _further_terms(
        self, output: ModelOutput | None, target: TeacherOutput, batch: Batch, progress: float
    ) -> dict[str, Tensor]:
        """Compute the terms of other methods than VeXKD, each with a key of its own."""
        config, grid = self.config, self.teacher.grid
        if not (config.relation or config.needs_heads or config.depth):
            return {}
        assert output is not None, "these terms need the student's whole output"
        terms: dict[str, Tensor] = {}
        if config.relation:
            terms["relation"] = config.relation * relation_loss(
                output.features.high, target.features.high, batch.boxes, grid
            )
        if config.response and config.response.heatmap:
            head = self.teacher.config.detection
            assert isinstance(head, CenterHeadConfig), "check_pairing refuses other heads"
            truth = true_heatmaps(batch, head.class_ids(), grid)
            truth[batch.unlabelled] = 1.0  # without boxes, the teacher alone says where to look
            terms["response_heatmap"] = config.response.heatmap * heatmap_response(
                heatmaps(output.detection), heatmaps(target.detection), truth
            )
        if config.response and config.response.map:
            assert output.segmentation is not None and target.segmentation is not None
            known = batch.map_known.clone()
            known[batch.unlabelled] = True  # the teacher's map needs no other
            terms["response_map"] = config.response.map * map_response(output.segmentation, target.segmentation, known)
        if config.depth:
            assert output.depth is not None and target.depth is not None and batch.sensors.cameras is not None
            terms["distill_depth"] = config.depth * depth_response(
                output.depth, target.depth, batch.sensors.cameras.present
            )
        if config.teacher_labels:
            terms["teacher_labels"] = config.teacher_labels.weight * self._label_difference(
                output, target, batch, progress
            )
        return terms

    def _label_difference(self, output: ModelOutput, target: TeacherOutput, batch: Batch, progress: float) -> Tensor:
        """Difference that the teacher's labels make to the student's detection loss, which may be negative.

        Added to the task loss, which has the true labels alone, it gives the loss with both.
        """
        assert self.label_decoder is not None and target.detection is not None
        labelled = add_teacher_labels(batch, self.label_decoder, target.detection)
        with_them, without = (
            cast(Tensor, sum(self.criterion.heads(output.detection, None, labels, progress).values()))
            for labels in (labelled, batch)
        )
        return with_them - without

    def freeze_masks(self) -> None:
        """Stop training the masks; they are still applied."""
        self.learning_masks = False
        if isinstance(self.masks, nn.Module):
            self.masks.requires_grad_(False)


def channels_of(model: BevModel) -> dict[str, int]:
    """Numbers of channels of the model's low and high BEV maps."""
    low = model.fusion or model.camera or model.lidar
    assert low is not None, "a model has a sensor"
    return {"low": cast(int, low.channels), "high": cast(int, model.bev.channels)}


def build_masks(
    config: DistillationConfig, teacher: Teacher, map_channels: dict[str, int]
) -> LearnedMasks | MaskFunction:
    """Build learned or hand-crafted masks; map_channels: those of the teacher's map of each distilled level."""
    match config.masks:
        case "fusion_queries" | "random_queries":
            channels = cast(int, (teacher.model.fusion or teacher.model.bev).channels)
            if map_channels and channels % config.mask_heads:
                raise UserError(
                    f"distillation.mask_heads: {config.mask_heads} heads cannot share {channels} channels, "
                    f"those of {teacher.config.name}'s queries, evenly"
                )
            return LearnedMasks(
                teacher.grid,
                map_channels,
                channels,
                config.mask_blocks,
                config.mask_heads,
                config.mask_points,
                config.mask_feedforward,
                config.mask_stride,
                config.masks == "random_queries",
            )
        case "ones":
            return ones
        case "key_points":
            return key_points(teacher.grid)
        case "gaussian":
            return gaussian(teacher.grid)
        case "activation":
            return activation
        case _:
            assert_never(config.masks)

"""Teacher labels: confident detections of the teacher that nobody annotated are labels of the student, too.

Source: SparseKD (NeurIPS 2022) and SCKD (AAAI 2025) add boxes of the teacher to the true ones.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vexkd_model.config.heads import CenterHeadConfig, TransFusionConfig
from vexkd_model.data.batch import Batch
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.decode import decode_detections
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.types import BevGrid

MATCH_M = 2.0  # nuScenes' distance for a true positive, of those with which errors are measured


def add_teacher_labels(batch: Batch, head: CenterHeadConfig | TransFusionConfig,
                       detection: list[TaskMaps] | TransFusionOutput, grid: BevGrid, score: float) -> Batch:
    """The batch with the teacher's boxes of at least this score beside its true ones, where they match none of them.

    head, detection: of the teacher, with what it says of the whole batch.
    """
    # Suppression never lets a weaker box remove a stronger one: those below the score need not take part.
    confident = head.model_copy(update={"score_threshold": max(score, head.score_threshold)})
    boxes, labels = [], []
    for i, (true_boxes, true_labels) in enumerate(zip(batch.boxes, batch.labels, strict=True)):
        found, _, classes = decode_detections(confident, of_sample(detection, i), grid)
        new = unmatched(found, classes, true_boxes, true_labels)
        boxes.append(torch.cat([true_boxes, found[new].to(true_boxes.dtype)]))
        labels.append(torch.cat([true_labels, classes[new].to(true_labels.dtype)]))
    return replace(batch, boxes=boxes, labels=labels)


def unmatched(boxes: Tensor, labels: Tensor, true_boxes: Tensor, true_labels: Tensor) -> Tensor:
    """bool (M,): whether a box (M, 9) is news.

    It is not where a true box (T, 9) of its class has its centre within MATCH_M, and not where its centre lies in the
    footprint of a true box of any class: there the annotation says what stands there.
    """
    offset = boxes[:, None, :2] - true_boxes[None, :, :2]
    same = (labels[:, None] == true_labels[None]) & (offset.norm(dim=2) <= MATCH_M)
    cos, sin = true_boxes[:, 6].cos(), true_boxes[:, 6].sin()
    along, across = (cos * offset[..., 0] + sin * offset[..., 1]), (cos * offset[..., 1] - sin * offset[..., 0])
    inside = (along.abs() <= true_boxes[:, 3] / 2) & (across.abs() <= true_boxes[:, 4] / 2)
    return ~(same | inside).any(dim=1)


def of_sample(detection: list[TaskMaps] | TransFusionOutput,
              i: int) -> Sequence[TaskMaps] | TransFusionOutput:
    """What a detection head says of sample i, as a batch of one."""
    if isinstance(detection, TransFusionOutput):
        return TransFusionOutput(*(field[i : i + 1] for field in detection))
    return [TaskMaps(*(field[i : i + 1] for field in maps)) for maps in detection]

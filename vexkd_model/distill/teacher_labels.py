"""Teacher labels: confident, unannotated detections of the teacher as further labels of the student.

Source: SparseKD (NeurIPS 2022) and SCKD (AAAI 2025) add boxes of the teacher to the true ones.
"""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from vexkd_model.criterion import select_samples
from vexkd_model.data.batch import Batch
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.decode import CenterDecoder, TransFusionDecoder
from vexkd_model.heads.transfusion import TransFusionOutput

MATCH_M = 2.0  # nuScenes' distance for a true positive, of those with which errors are measured


Decoder = CenterDecoder | TransFusionDecoder


def label_decoder(decoder: Decoder, score: float) -> Decoder:
    """Limit the teacher's decoder to detections of at least this score."""
    # Suppression never lets a weaker box remove a stronger one: those below the score need not take part.
    return replace(decoder, score_threshold=max(score, decoder.score_threshold))


def add_teacher_labels(batch: Batch, decoder: Decoder, detection: list[TaskMaps] | TransFusionOutput) -> Batch:
    """Add the teacher's boxes that match no true box to the labels of a batch, whose samples then all have labels.

    decoder: of `label_decoder`. detection: output of the teacher's detection head for the whole batch.
    """
    boxes, labels = [], []
    for i, (true_boxes, true_labels) in enumerate(zip(batch.boxes, batch.labels, strict=True)):
        detected, _, classes = decoder(cast(Any, select_samples(detection, [i])))  # that of the head, by build_decoder
        new = unmatched(detected, classes, true_boxes, true_labels)
        boxes.append(torch.cat([true_boxes, detected[new].to(true_boxes.dtype)]))
        labels.append(torch.cat([true_labels, classes[new].to(true_labels.dtype)]))
    return replace(batch, boxes=boxes, labels=labels, unlabelled=[])


def unmatched(boxes: Tensor, labels: Tensor, true_boxes: Tensor, true_labels: Tensor) -> Tensor:
    """Mask bool (M,) of the boxes (M, 9) that match no true box.

    A box matches if a true box (T, 9) of its class has its centre within MATCH_M, or if its own centre lies in the
    footprint of a true box of any class, because then the annotation names the object that stands there.
    """
    offset = boxes[:, None, :2] - true_boxes[None, :, :2]
    same = (labels[:, None] == true_labels[None]) & (offset.norm(dim=2) <= MATCH_M)
    cos, sin = true_boxes[:, 6].cos(), true_boxes[:, 6].sin()
    along, across = (cos * offset[..., 0] + sin * offset[..., 1]), (cos * offset[..., 1] - sin * offset[..., 0])
    inside = (along.abs() <= true_boxes[:, 3] / 2) & (across.abs() <= true_boxes[:, 4] / 2)
    return ~(same | inside).any(dim=1)

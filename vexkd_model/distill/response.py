"""Response distillation: losses between the outputs of a student and its teacher, of heads and of depth nets."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vexkd_model.data.batch import Batch
from vexkd_model.distributed import mean_count
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.center_loss import center_targets
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.types import BevGrid


def heatmap_response(student: Tensor, teacher: Tensor, truth: Tensor) -> Tensor:
    """Squared error of heatmaps at pivotal positions: where there is an object and the teacher sees one.

    student, teacher: logits (B, K, Y, X) of all classes. truth: Gaussian targets of the same shape. Every position is
    weighted by the teacher's largest probability times the largest target; the sum over classes and positions is
    divided by the sum of the weights, or by 1 where that is less. Source: SparseKD (NeurIPS 2022).
    """
    student, teacher = student.float().sigmoid(), teacher.float().sigmoid()
    weight = teacher.amax(dim=1, keepdim=True) * truth.amax(dim=1, keepdim=True)
    return ((student - teacher).square() * weight).sum() / mean_count(weight.sum())


def map_response(student: Tensor, teacher: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy towards the teacher's probabilities, mean over the known cells of each class, summed.

    student, teacher: logits (B, 6, Y, X). known: bool (B, Y, X), False where the map is unknown. The mean is that of
    the segmentation loss, so that both have one scale.
    """
    error = functional.binary_cross_entropy_with_logits(student.float(), teacher.float().sigmoid(), reduction="none")
    return (error * known[:, None]).sum() / mean_count(known.sum())


def depth_response(student: Tensor, teacher: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of both distributions over depth bins, mean over the pixels of the cameras that are there.

    student, teacher: logits (B, N, D, h, w). present: bool (B, N). BEVDepth (Li et al., AAAI 2023) supervises the bins
    where there are LiDAR returns; a teacher that reads the LiDAR beside the image supervises them in every pixel.
    """
    wanted = teacher.float().softmax(dim=2)
    error = -(wanted * student.float().log_softmax(dim=2)).sum(dim=2)
    seen = present[:, :, None, None].expand_as(error)
    return (error * seen).sum() / mean_count(seen.sum())


def heatmaps(detection: list[TaskMaps] | TransFusionOutput | None) -> Tensor:
    """Logits (B, K, Y, X) of the classes of all tasks of a CenterHead's output, in the order of the tasks."""
    assert detection is not None and not isinstance(detection, TransFusionOutput), "check_pairing refuses other heads"
    return torch.cat([maps.heatmap for maps in detection], dim=1)


def true_heatmaps(batch: Batch, class_ids: Sequence[Sequence[int]], grid: BevGrid) -> Tensor:
    """Gaussian targets (B, K, Y, X) of the batch's true boxes, in the order of `heatmaps`."""
    return torch.cat([center_targets(batch.boxes, batch.labels, ids, grid).heatmap for ids in class_ids], dim=1)

"""Depth distillation: a camera student's depth distribution is drawn towards its teacher's.

BEVDepth (Li et al., AAAI 2023) lets LiDAR returns supervise the bins, where there are returns; a teacher that reads the
LiDAR beside the image says something in every pixel.
"""

from torch import Tensor

from vexkd_model.distributed import mean_count


def depth_distillation(student: Tensor, teacher: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of both distributions over depth bins, mean over the pixels of the cameras that are there.

    student, teacher: logits (B, N, D, h, w). present: bool (B, N).
    """
    wanted = teacher.float().softmax(dim=2)
    error = -(wanted * student.float().log_softmax(dim=2)).sum(dim=2)
    seen = present[:, :, None, None].expand_as(error)
    return (error * seen).sum() / mean_count(seen.sum())

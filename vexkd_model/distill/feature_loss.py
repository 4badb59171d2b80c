"""Feature losses: masked distances between a student's and its teacher's BEV maps."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vexkd_model.layers import Conv2d

LEAST_NORM = 1e-12
LEAST_VARIANCE = 1e-3  # of a channel, in shares of the mean over channels


def normalised_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference in units of the teacher's variance in each channel, over batch and cells; all (B, C, Y, X).

    Every channel counts alike, however large its values are. A channel that is nearly constant in this batch would
    outweigh all others; its variance counts as LEAST_VARIANCE of the channels' mean variance.
    """
    variance = teacher.var(dim=(0, 2, 3), keepdim=True, correction=0)
    least = (LEAST_VARIANCE * variance.mean()).clamp(min=LEAST_NORM)
    return (student - teacher).square() / variance.maximum(least)


ELEMENTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": partial(functional.l1_loss, reduction="none"),
    "l2": partial(functional.mse_loss, reduction="none"),
    "smooth_l1": partial(functional.smooth_l1_loss, reduction="none"),
    "normalised_l2": normalised_squared_error,
}


def attention_transfer(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Distance of two maps' attention, the mean over the batch; 0 for equal maps up to a positive factor.

    student, teacher: (B, ·, Y, X), channels of their own. mask: (B, 1, Y, X). Source: VeXKD (NeurIPS 2024), eq. 6 and
    7; the sum over channels is of magnitudes, as in attention transfer (Zagoruyko & Komodakis, ICLR 2017).
    """
    return torch.linalg.vector_norm(_attention(student, mask) - _attention(teacher, mask), dim=1).mean()


def _attention(features: Tensor, mask: Tensor) -> Tensor:
    """Masked attention (B, Y·X) of features (B, C, Y, X), normalised to length 1 in each sample."""
    attention = (mask[:, 0] * features.float().abs().sum(dim=1)).flatten(1)
    return attention / torch.linalg.vector_norm(attention, dim=1, keepdim=True).clamp(min=LEAST_NORM)


def masked_mean(name: str, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean of a difference of ELEMENTWISE over channels, over cells weighted by the mask, and over the batch.

    student, teacher: (B, C, Y, X). mask: (B, 1, Y, X). Source: BEVDistill (ICLR 2023): the sum under the mask is
    divided by the sum of the mask; here in each sample, so that it does not depend on what else is in its batch.
    """
    difference = ELEMENTWISE[name](student.float(), teacher.float()).mean(dim=1, keepdim=True)
    return ((difference * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp(min=LEAST_NORM)).mean()


class FeatureLoss(nn.Module):
    """Loss of one level: student's and teacher's map (B, ·, Y, X), mask (B, 1, Y, X) → two scalars.

    Attention needs no adapter; normalised_l2 has none where the maps' channels are as many, so that they must be the
    same.
    """

    def __init__(self, name: str, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.name = name
        comparable = name == "attention_transfer" or (name == "normalised_l2" and student_channels == teacher_channels)
        self.adapter = nn.Identity() if comparable else Conv2d(student_channels, teacher_channels, 3, padding=1)

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one distance twice: with gradient to the student alone, and with gradient to the mask alone."""
        adapted = self.adapter(student)
        return self._distance(adapted, teacher, mask.detach()), self._distance(adapted.detach(), teacher, mask)

    def _distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        if self.name == "attention_transfer":
            return attention_transfer(student, teacher, mask)
        return masked_mean(self.name, student, teacher, mask)

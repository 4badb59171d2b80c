"""Optimiser and learning-rate schedule."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from vexkd_model.config.training import TrainingConfig

WARM_UP_STEPS = 500  # BEVFormer's
LEAST_SHARE = 1e-3  # of the peak, at the end


def optimiser_and_schedule(
    settings: TrainingConfig, model: nn.Module, backbone: nn.Module | None, steps: int
) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """Make AdamW and its schedule over `steps` steps.

    The parameters of `backbone`, a part of the model, have `settings.backbone_rate` times the learning rate.
    """
    slower = list(backbone.parameters()) if backbone is not None else []
    apart = {id(parameter) for parameter in slower}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    groups = [{"params": rest, "lr": settings.learning_rate}]
    if slower:
        slower = [p for p in slower if p.requires_grad]
        groups.append({"params": slower, "lr": settings.learning_rate * settings.backbone_rate})
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    if settings.schedule == "cosine":
        return optimiser, LambdaLR(optimiser, lambda step: cosine_share(step, steps))
    return optimiser, OneCycleLR(
        optimiser,
        [group["lr"] for group in groups],
        total_steps=steps,
        pct_start=0.3,
        div_factor=10,
        final_div_factor=1e3,
    )


def cosine_share(step: int, steps: int) -> float:
    """Share of the peak rate at `step`: a linear warm-up from a third, then half a cosine down to LEAST_SHARE."""
    warm_up = min(WARM_UP_STEPS, steps // 10)
    if step < warm_up:
        return (1 + 2 * step / warm_up) / 3
    done = (step - warm_up) / max(steps - warm_up, 1)
    return LEAST_SHARE + (1 - LEAST_SHARE) * (1 + math.cos(math.pi * done)) / 2

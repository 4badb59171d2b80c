"""CenterHead: dense 3D detection from the high-level map.

Source: CenterPoint (Yin et al., CVPR 2021): a heatmap of object centres a class and, at each centre, the rest of the
box. Targets and losses are in center_loss.py, the way back to boxes in decode.py.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vexkd_model.layers import Conv2d, conv_bn_relu

HEATMAP_BIAS = -math.log((1 - 0.1) / 0.1)  # −2.19: every cell starts at probability 0.1 (RetinaNet's prior)
REGRESSION_CHANNELS = {"offset": 2, "height": 1, "size": 3, "heading": 2, "velocity": 2}
AXIS_CHANNELS = {"axis": 2}


class TaskMaps(NamedTuple):
    """Predictions of one task in every cell; each (B, channels, Y, X).

    heatmap: logits, one a class of the task. offset: the centre in cells from the cell's minimum corner (x, y).
    height: z of the centre [m]. size: logarithms of length, width, height [m]. heading: sin and cos of yaw.
    velocity: vx, vy [m/s]. axis: sin and cos of twice the yaw, or None: the line along which the object lies, which is
    known where front and back are not.
    """

    heatmap: Tensor
    offset: Tensor
    height: Tensor
    size: Tensor
    heading: Tensor
    velocity: Tensor
    axis: Tensor | None = None


class CenterHead(nn.Module):
    """CenterPoint's head: (B, C, Y, X) → one TaskMaps a task.

    separate: False, one hidden convolution of `task_channels` a task and 1×1 outputs: cheap. True, as published: a
    branch of two 3×3 convolutions for each field of each task, `task_channels` wide. axis: whether TaskMaps.axis is
    predicted, too.
    """

    def __init__(
        self,
        in_channels: int,
        shared_channels: int,
        task_channels: int,
        classes_of_task: Sequence[int],
        separate: bool = False,
        axis: bool = False,
    ) -> None:
        super().__init__()
        fields = {**REGRESSION_CHANNELS, **(AXIS_CHANNELS if axis else {})}
        self.shared = conv_bn_relu(in_channels, shared_channels)
        task_head = _SeparateTaskHead if separate else _TaskHead
        self.tasks = nn.ModuleList(
            task_head(shared_channels, task_channels, {"heatmap": classes, **fields}) for classes in classes_of_task
        )

    def forward(self, high: Tensor) -> list[TaskMaps]:
        shared = self.shared(high)
        return [task(shared) for task in self.tasks]


class _TaskHead(nn.Module):
    """One hidden convolution for all fields. fields: channels of each field of TaskMaps, in its order."""

    def __init__(self, in_channels: int, channels: int, fields: Mapping[str, int]) -> None:
        super().__init__()
        self.split = list(fields.values())
        self.hidden = conv_bn_relu(in_channels, channels)
        self.out = nn.Conv2d(channels, sum(self.split), 1)
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias[: fields["heatmap"]], HEATMAP_BIAS)

    def forward(self, shared: Tensor) -> TaskMaps:
        return TaskMaps(*torch.split(self.out(self.hidden(shared)), self.split, dim=1))


class _SeparateTaskHead(nn.Module):
    """A branch for each field. Source: mmdetection3d's SeparateHead, CenterPoint's SepHead."""

    def __init__(self, in_channels: int, channels: int, fields: Mapping[str, int]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                name: nn.Sequential(conv_bn_relu(in_channels, channels), Conv2d(channels, out_channels, 3, padding=1))
                for name, out_channels in fields.items()
            }
        )
        nn.init.constant_(self.branches["heatmap"].get_parameter("1.bias"), HEATMAP_BIAS)

    def forward(self, shared: Tensor) -> TaskMaps:
        return TaskMaps(**{name: branch(shared) for name, branch in self.branches.items()})

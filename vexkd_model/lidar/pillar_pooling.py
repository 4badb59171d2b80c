"""Pillars of one cloud at inference on a CPU: what PillarEncoder.canvas computes, in less time.

With the batch norm folded, a point's features before the ReLU are linear in the point and in what it shares with its
pillar, their mean and the centre. What is shared does not change which point is largest, nor does the ReLU:

    maximum of ReLU(W · decorated point + b)  =  ReLU(maximum of A · point + B · pillar)

so that no point is decorated, and what is wide is computed of a few thousand points at a time, in the cache.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vexkd_model.geometry.bev_grid import axis_cells_from_metres
from vexkd_model.types import BevGrid

TOGETHER = 8  # points of a place that one maximum compares; the last of its points again fills up
AT_ONCE = 1024  # such groups, whose features fit into the second cache


class PillarPooling:
    """Pillars of one cloud to the stem's input; not for gradients.

    linear: from the decorated point (10) to C channels, with bias. point_scale: of its first five features. pillars,
    z_min, z_max, age_groups, max_age: as in PillarEncoder.
    """

    def __init__(
        self,
        linear: nn.Linear,
        point_scale: Sequence[float],
        pillars: BevGrid,
        z_min: float,
        z_max: float,
        age_groups: int,
        max_age: float,
    ) -> None:
        self._pillars, self._z_range = pillars, (z_min, z_max)
        self._age_groups, self._max_age = age_groups, max_age
        rows, columns = pillars.shape
        self._places = rows * columns * age_groups
        weight, bias, cell = linear.weight.detach().double(), linear.bias.detach().double(), pillars.cell
        # Columns of the weight: the point's five, its offset from the mean (3), from the centre (2).
        scaled = weight[:, :5] * torch.tensor(point_scale).double()
        along_x, along_y = (cell * (scaled[:, i] + weight[:, 5 + i]) + weight[:, 8 + i] for i in (0, 1))
        of_point = [along_x, along_y, scaled[:, 2] + weight[:, 7], scaled[:, 3], scaled[:, 4]]
        self._of_point = torch.stack(of_point).float()
        of_pillar = [scaled[:, 0], scaled[:, 1], -cell * weight[:, 5], -cell * weight[:, 6], -weight[:, 7], bias]
        self._of_pillar = torch.stack(of_pillar).float()
        # Kept from cloud to cloud: of its megabytes a cloud fills a tenth, and only that is cleared again.
        self._canvas = torch.zeros(self._places, len(weight))
        self._filled = torch.zeros(0, dtype=torch.long)

    @torch.autocast("cpu", enabled=False)  # positions in bfloat16 would be off by up to 0.1 m
    def __call__(self, points: Tensor) -> Tensor:
        """Pool points float32 (N, 5) to (1, age groups · C, Y, X), channels last; overwritten by the next call."""
        self._canvas.index_fill_(0, self._filled, 0.0)
        local, place = self._in_pillars(points)
        place, order = place.sort(stable=True)
        inside = int(torch.searchsorted(place, self._places))
        place, local = place[:inside].numpy(), local.numpy().take(order[:inside].numpy(), axis=1)
        first = np.flatnonzero(np.append(True, place[1:] != place[:-1])[:inside])
        filled = place[first]
        self._filled = torch.from_numpy(filled).long()
        if inside:
            pooled = self._largest(local, first)
            pooled.addmm_(self._pillar_features(local, first, filled), self._of_pillar).relu_()
            self._canvas.index_copy_(0, self._filled, pooled)
        rows, columns = self._pillars.shape
        return self._canvas.view(1, rows, columns, -1).permute(0, 3, 1, 2)

    def _in_pillars(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Position in the pillar, and place on the canvas, of each point.

        Returns float32 (5, N): x and y from the pillar's centre [pillars], z, intensity, dt; and int32 (N,), flat index
        into (Y, X, age groups), or their number for a point out of range.
        """
        (rows, columns), grid = self._pillars.shape, self._pillars
        x, y, z, intensity, age = points.T.contiguous()  # nothing to do where sweeps were accumulated by column
        x = axis_cells_from_metres(x, grid.x_min, grid.cell)
        y = axis_cells_from_metres(y, grid.y_min, grid.cell)
        column, row = x.floor(), y.floor()
        # Compared as floats, as in bev_grid.in_map.
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        inside &= (z >= self._z_range[0]) & (z < self._z_range[1])
        place = row.int().mul_(columns).add_(column.int())
        if self._age_groups > 1:
            group = (age * (self._age_groups / self._max_age)).int().clamp_(0, self._age_groups - 1)
            place.mul_(self._age_groups).add_(group)
        local = torch.stack([x.sub_(column).sub_(0.5), y.sub_(row).sub_(0.5), z, intensity, age])
        return local, torch.where(inside, place, self._places)

    def _largest(self, local: np.ndarray, first: np.ndarray) -> Tensor:
        """Maximum of A · point of each filled place, (P, C).

        local: float32 (5, n), in the order of their places. first: index (P,) of each place's first point.
        """
        end = np.append(first[1:], local.shape[1])
        groups = -(-(end - first) // TOGETHER)
        begin = np.cumsum(groups) - groups
        place = np.repeat(np.arange(len(first)), groups)
        start = first[place] + TOGETHER * (np.arange(len(place)) - begin[place])
        members = np.minimum(start + np.arange(TOGETHER)[:, None], end[place] - 1)
        largest = torch.empty(len(place), self._of_point.shape[1])
        for i in range(0, len(place), AT_ONCE):
            some = members[:, i : i + AT_ONCE]
            features = torch.from_numpy(local.take(some.reshape(-1), axis=1)).T @ self._of_point
            torch.amax(features.view(*some.shape, -1), dim=0, out=largest[i : i + AT_ONCE])
        pooled = torch.full((len(first), largest.shape[1]), -torch.inf)
        index = torch.from_numpy(place)[:, None].expand_as(largest)
        return pooled.scatter_reduce_(0, index, largest, "amax")

    def _pillar_features(self, local: np.ndarray, first: np.ndarray, filled: np.ndarray) -> Tensor:
        """Centre [m], mean of the points' local x, y and z, and 1 of the pillar of each filled place, (P, 6)."""
        columns, grid = self._pillars.shape[1], self._pillars
        pillar = filled // self._age_groups
        sums = np.vstack([np.add.reduceat(local[:3], first, axis=1), np.diff(first, append=local.shape[1])])
        newest = np.flatnonzero(np.diff(pillar, prepend=-1))  # a pillar's age groups follow one another
        total = np.add.reduceat(sums, newest, axis=1)
        mean = np.repeat(total[:3] / total[3], np.diff(newest, append=len(pillar)), axis=1)
        centre = ((pillar % columns + 0.5) * grid.cell + grid.x_min, (pillar // columns + 0.5) * grid.cell + grid.y_min)
        return torch.from_numpy(np.stack([*centre, *mean, np.ones(len(filled))], axis=1).astype(np.float32))

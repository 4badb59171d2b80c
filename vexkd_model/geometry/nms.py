"""Overlap of rotated rectangles seen from above, and non-maximum suppression. PyTorch, on CPU and CUDA alike."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vexkd_model.geometry.boxes import CORNER_SIGNS

NMS_BLOCK = 128


def rotated_iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU (N, M) of the footprints of boxes a (N, ≥ 7) and b (M, ≥ 7), in order of BOX_FIELDS.

    Exact up to rounding, computed in float64 and returned in a's dtype. A footprint without area has IoU 0.
    """
    rows, columns = torch.nonzero(_circles_meet(a, b), as_tuple=True)
    iou = torch.zeros(len(a), len(b), dtype=a.dtype, device=a.device)
    iou[rows, columns] = _pair_iou(a[rows], b[columns]).to(a.dtype)
    return iou


def iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU (N, M) of the volumes of upright boxes a (N, ≥ 7) and b (M, ≥ 7), in order of BOX_FIELDS.

    The shared volume is the footprints' shared area times the shared height. Exact up to rounding, computed in float64
    and returned in a's dtype. A box without volume has IoU 0.
    """
    rows, columns = torch.nonzero(_circles_meet(a, b), as_tuple=True)
    one, other = a[rows].double(), b[columns].double()
    top = torch.minimum(one[:, 2] + one[:, 5] / 2, other[:, 2] + other[:, 5] / 2)
    bottom = torch.maximum(one[:, 2] - one[:, 5] / 2, other[:, 2] - other[:, 5] / 2)
    shared = _pair_intersection(one, other) * (top - bottom).clamp(min=0)
    iou = torch.zeros(len(a), len(b), dtype=a.dtype, device=a.device)
    iou[rows, columns] = _share_of_union(shared, one[:, 3:6].prod(1), other[:, 3:6].prod(1)).to(a.dtype)
    return iou


def rotated_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int) -> Tensor:
    """Suppress overlapping boxes (N, ≥ 7): int64 (K,) indices to keep, best score first, K ≤ max_keep.

    A box goes when its BEV IoU with a kept, better one exceeds `iou_threshold`. Equal scores keep their order.
    """
    return rotated_nms_by_group([boxes], [scores], [iou_threshold], max_keep)[0]


def rotated_nms_by_group(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], iou_thresholds: Sequence[float], max_keep: int
) -> list[Tensor]:
    """Suppress as `rotated_nms` does, each group by itself; pairs of all groups are compared in one go.

    Most of the time of a few boxes is that of calling a hundred operations, however many groups share them.
    """
    # In blocks, because most of a block falls to what is kept already: far fewer pairs than all with all.
    blocks = [torch.argsort(group, descending=True, stable=True).split(NMS_BLOCK) for group in scores]
    kept = [order[0][:0] for order in blocks]
    for turn in range(max(map(len, blocks), default=0)):
        groups = [i for i, order in enumerate(blocks) if turn < len(order) and len(kept[i]) < max_keep]
        if not groups:
            break
        thresholds = [iou_thresholds[i] for i in groups]
        block = [blocks[i][turn] for i in groups]
        if turn:
            pairs = [(boxes[i][kept[i]], boxes[i][ranks]) for i, ranks in zip(groups, block, strict=True)]
            tables = _exceed(pairs, [_circles_meet(*pair) for pair in pairs], thresholds)
            block = [ranks[~table.any(dim=0)] for ranks, table in zip(block, tables, strict=True)]
        ranked = [boxes[i][ranks] for i, ranks in zip(groups, block, strict=True)]
        candidates = [_circles_meet(group, group).triu(1) for group in ranked]
        tables = _exceed([(group, group) for group in ranked], candidates, thresholds)
        for i, ranks, table in zip(groups, block, tables, strict=True):
            kept[i] = torch.cat([kept[i], ranks[_greedy(table, max_keep - len(kept[i]))]])
    return kept


def circle_nms(centres: Tensor, scores: Tensor, radius: float, max_keep: int) -> Tensor:
    """Suppress near centres (N, ≥ 2): int64 (K,) indices to keep, best score first, K ≤ max_keep.

    A centre goes when a kept, better one lies within `radius` metres. Equal scores keep their order.
    Note: CenterPoint and mmdetection3d compare the *squared* distance with their published "radii" (4, 12, 10, 1,
    0.85, 0.175); in metres these are the square roots: 2, 3.46, 3.16, 1, 0.92, 0.42.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    ranked = centres[order, :2].double()
    return order[_greedy(_distances(ranked, ranked) <= radius, max_keep)]


def _greedy(excludes: Tensor, max_keep: int) -> Tensor:
    """Select ranks greedily, best first; `excludes` (N, N) bool: row i, if kept, removes column j > i."""
    # The loop is sequential by nature: on a GPU one copy to the host is faster than N kernel launches.
    table = np.triu(excludes.cpu().numpy(), 1)
    removed = np.zeros(len(table), dtype=bool)
    for rank in np.flatnonzero(table.any(axis=1)).tolist():
        if not removed[rank]:
            removed |= table[rank]
    return torch.from_numpy(np.flatnonzero(~removed)[:max_keep]).to(excludes.device)


def _circles_meet(a: Tensor, b: Tensor) -> Tensor:
    """Mask, bool (N, M), of pairs whose circles around the footprints meet; no other footprints can."""
    a, b = a.double(), b.double()
    reach_a, reach_b = (torch.hypot(boxes[:, 3], boxes[:, 4]) / 2 for boxes in (a, b))
    return _distances(a[:, :2], b[:, :2]) < reach_a[:, None] + reach_b


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (N, M) of points a (N, 2) and b (M, 2); not by matrix product, which loses millimetres far out."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _exceed(
    pairs: Sequence[tuple[Tensor, Tensor]], candidates: Sequence[Tensor], iou_thresholds: Sequence[float]
) -> list[Tensor]:
    """Masks, bool (N, M) of each group, of those pairs of boxes whose BEV IoU is above the group's threshold.

    pairs: boxes (N, ≥ 7) and (M, ≥ 7) of each group. candidates: bool (N, M), the pairs to look at.
    """
    found = [torch.nonzero(mask, as_tuple=True) for mask in candidates]
    a = torch.cat([first[rows] for (first, _), (rows, _) in zip(pairs, found, strict=True)])
    b = torch.cat([second[columns] for (_, second), (_, columns) in zip(pairs, found, strict=True)])
    ious = _pair_iou(a, b).split([len(rows) for rows, _ in found])
    tables = [torch.zeros_like(mask) for mask in candidates]
    for table, index, iou, threshold in zip(tables, found, ious, iou_thresholds, strict=True):
        table[index] = iou > threshold
    return tables


def _pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU, float64 (P,), of the footprints of P pairs of boxes (P, ≥ 7)."""
    a, b = a.double(), b.double()
    return _share_of_union(_pair_intersection(a, b), a[:, 3] * a[:, 4], b[:, 3] * b[:, 4])


def _share_of_union(shared: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Ratio of shared area or volume to the union; 0 where there is no union."""
    union = a + b - shared
    return torch.where(union > 0, shared / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def _pair_intersection(a: Tensor, b: Tensor) -> Tensor:
    """Shared area [m²], float64 (P,), of the footprints of P pairs of boxes.

    In b's own frame b is the set |x| ≤ X, |y| ≤ Y. By Green's theorem the area that it shares with a is minus the sum,
    over a's counter-clockwise edges, of the integral of clamp(y, −Y, Y) dx over the part of the edge with |x| ≤ X.
    There is no polygon to build and to sort, and touching or coincident edges are no special case.
    """
    x, y = _corners_in_frame_of(a, b)
    half_x, half_y = b[:, None, 3] / 2, b[:, None, 4] / 2
    dx, dy = x.roll(-1, 1) - x, y.roll(-1, 1) - y

    x0, x1 = x.clamp(-half_x, half_x), (x + dx).clamp(-half_x, half_x)
    safe_dx = torch.where(dx == 0, 1.0, dx)
    y0, y1 = y + (x0 - x) / safe_dx * dy, y + (x1 - x) / safe_dx * dy

    # mean of clamp(y) on the way from y0 to y1: the shares of that way inside, above and below the rectangle
    inner0, inner1 = y0.clamp(-half_y, half_y), y1.clamp(-half_y, half_y)
    above = y1.maximum(half_y) - y0.maximum(half_y)
    below = y1.minimum(-half_y) - y0.minimum(-half_y)
    weighted = (inner1 - inner0) * (inner0 + inner1) / 2 + (above - below) * half_y
    way = y1 - y0
    mean = torch.where(way == 0, inner0, weighted / torch.where(way == 0, 1.0, way))
    return -((x1 - x0) * mean).sum(1).clamp(max=0)


def _corners_in_frame_of(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of each box a, x and y (P, 4), counter-clockwise, in the frame of the box b of its pair."""
    signs = torch.as_tensor(CORNER_SIGNS, dtype=a.dtype, device=a.device)
    along, across = (a[:, 3:5, None] / 2 * signs.T).unbind(1)
    dx, dy = (a[:, :2] - b[:, :2]).unbind(1)
    cos_b, sin_b = b[:, 6].cos(), b[:, 6].sin()
    turn = a[:, 6] - b[:, 6]
    cos, sin = turn.cos()[:, None], turn.sin()[:, None]
    centre_x, centre_y = cos_b * dx + sin_b * dy, cos_b * dy - sin_b * dx
    return cos * along - sin * across + centre_x[:, None], sin * along + cos * across + centre_y[:, None]

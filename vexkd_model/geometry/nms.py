"""Overlap of rotated rectangles seen from above, and non-maximum suppression. PyTorch, on CPU and CUDA alike."""

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
    order = torch.argsort(scores, descending=True, stable=True)
    kept = order[:0]
    # In blocks, because most of a block falls to what is kept already: far fewer pairs than all with all.
    for block in order.split(NMS_BLOCK):
        if len(kept):
            near = _circles_meet(boxes[kept], boxes[block])
            block = block[~_exceeds(boxes[kept], boxes[block], near, iou_threshold).any(dim=0)]
        ranked = boxes[block]
        excludes = _exceeds(ranked, ranked, _circles_meet(ranked, ranked).triu(1), iou_threshold)
        kept = torch.cat([kept, block[_greedy(excludes, max_keep - len(kept))]])
        if len(kept) == max_keep:
            break
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
    table = excludes.cpu().numpy()
    removed = np.zeros(len(table), dtype=bool)
    kept = []
    for rank in range(len(table)):
        if len(kept) == max_keep:
            break
        if not removed[rank]:
            kept.append(rank)
            removed |= table[rank]
    return torch.tensor(kept, dtype=torch.long, device=excludes.device)


def _circles_meet(a: Tensor, b: Tensor) -> Tensor:
    """Mask, bool (N, M), of pairs whose circles around the footprints meet; no other footprints can."""
    a, b = a.double(), b.double()
    reach_a, reach_b = (torch.hypot(boxes[:, 3], boxes[:, 4]) / 2 for boxes in (a, b))
    return _distances(a[:, :2], b[:, :2]) < reach_a[:, None] + reach_b


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (N, M) of points a (N, 2) and b (M, 2); not by matrix product, which loses millimetres far out."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _exceeds(a: Tensor, b: Tensor, candidates: Tensor, iou_threshold: float) -> Tensor:
    """Mask, bool (N, M), of those `candidates` (N, M) among pairs of boxes whose BEV IoU is above the threshold."""
    rows, columns = torch.nonzero(candidates, as_tuple=True)
    table = torch.zeros_like(candidates)
    table[rows, columns] = _pair_iou(a[rows], b[columns]) > iou_threshold
    return table


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

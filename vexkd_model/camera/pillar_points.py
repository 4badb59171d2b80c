"""Projection of the pillars that stand on BEV cells into the cameras.

Source: BEVFormer (Li et al., ECCV 2022, section 3.3): each cell is lifted to a few points above its centre, which are
projected into every camera.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vexkd_model.camera.projection import MIN_DEPTH, product, project
from vexkd_model.data.batch import CameraBatch
from vexkd_model.types import BevGrid

FAR_OUTSIDE = 10.0  # image widths and heights: no offset of a sampling point leads back from there


class PillarGeometry(NamedTuple):
    """Pillars of Q = Y·X cells, row by row, with R points each, seen by N cameras; valid for one calibration.

    reference: float32 (B, N, Q, R, 2), x and y of each point as shares of the image's width and height; far outside
    the image for points behind the camera. visible: bool (B, N, Q), whether any of a cell's points is in the image.
    """

    reference: Tensor
    visible: Tensor


class SeenQueries(NamedTuple):
    """Cells that each camera sees, padded to the M of the camera that sees most.

    cell: int64 (B·N, M) into the B·Q cells of the batch. reference: (B·N, M, R, 2), as in PillarGeometry. share:
    float32 (B·N, M, 1), one over the number of cameras that see the cell, and 0 for padding.
    """

    cell: Tensor
    reference: Tensor
    share: Tensor


def pillar_points(grid: BevGrid, heights: Sequence[float]) -> Tensor:
    """Place points, float32 (Y·X, R, 3) in base_link [m], above the centre of each cell, at R heights."""
    y, x = (torch.from_numpy(centre).float() for centre in grid.centres())
    grid_y, grid_x, grid_z = torch.meshgrid(y, x, torch.tensor(heights, dtype=torch.float32), indexing="ij")
    return torch.stack([grid_x, grid_y, grid_z], dim=-1).flatten(0, 1)


def project_pillars(points: Tensor, cameras: CameraBatch, image_size: tuple[int, int]) -> PillarGeometry:
    """Project points (Q, R, 3) of base_link [m] into cameras with images of (height, width) [px]."""
    # Not projection.image_from_base: its closed form rounds otherwise, and trained students answer as they did.
    # inv() would make the CPU wait for a GPU, to say whether there is an inverse.
    camera_from_base = torch.linalg.inv_ex(cameras.base_from_camera).inverse[..., :3, :]
    image_from_base = product(cameras.image_from_camera, camera_from_base)
    pixels, depth = project(image_from_base[:, :, None, None], points)
    in_front = (depth > MIN_DEPTH)[..., None]
    reference = pixels / pixels.new_tensor([image_size[1], image_size[0]])
    inside = (in_front & (reference >= 0) & (reference < 1)).all(dim=-1)
    reference = torch.where(in_front, reference.clamp(-FAR_OUTSIDE, FAR_OUTSIDE), -FAR_OUTSIDE)
    return PillarGeometry(reference, inside.any(dim=-1))


def seen_queries(geometry: PillarGeometry, present: Tensor) -> SeenQueries:
    """Collect the cells that each camera sees. present: bool (B, N), the cameras that are there."""
    visible = geometry.visible & present[..., None]
    batch, _, queries = visible.shape
    longest = visible.sum(dim=-1).max().clamp(min=1).item()  # one row of padding where nobody sees anything
    torch._check(longest <= queries)
    rank = visible * torch.arange(queries, 0, -1, device=visible.device)
    # Seen cells come first, in their own order. int() of `longest` would make it a constant of an exported graph.
    rank, query = rank.topk(longest, dim=-1)  # pyright: ignore[reportArgumentType]
    share = 1 / visible.sum(dim=1).clamp(min=1)
    index = query + torch.arange(batch, device=query.device)[:, None, None] * queries
    share_of_seen = share.flatten()[index] * (rank > 0)
    points = geometry.reference.shape[3:]
    reference = geometry.reference.gather(2, query[..., None, None].expand(-1, -1, -1, *points))
    return SeenQueries(index.flatten(0, 1), reference.flatten(0, 1), share_of_seen.flatten(0, 1)[..., None])

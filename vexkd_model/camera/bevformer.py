"""BEVFormer-S: camera features → low-level BEV map, through queries that stand on the BEV cells.

Source: BEVFormer (Li et al., ECCV 2022), static: without history. Published code keeps the temporal attention there and
feeds it the current query in the place of the past one; ours is what remains of that, deformable self-attention of
the query. Post-norm layers; camera and level embeddings as published.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vexkd_model.bev.deformable_attention import DeformableAttention, cell_centres
from vexkd_model.camera.pillar_points import PillarGeometry, SeenQueries, pillar_points, project_pillars, seen_queries
from vexkd_model.data.batch import CameraBatch
from vexkd_model.layers import feed_forward_layers
from vexkd_model.types import BevGrid

SELF_POINTS = 4  # keys a head in self-attention
CROSS_POINTS = 8  # keys a head, camera and level in cross-attention: two around each of four pillar points


class BevFormer(nn.Module):
    """BEVFormer-S: pyramids of N cameras' features → (B, width, Y, X) on `grid`.

    in_channels: of each level. cameras: N. points_z: heights of the pillar points in base_link [m]; their number
    divides CROSS_POINTS. recompute: in training, keep no activations of a layer but compute them again.
    """

    centres: Tensor
    pillars: Tensor

    def __init__(
        self,
        grid: BevGrid,
        in_channels: Sequence[int],
        cameras: int = 6,
        width: int = 256,
        layers: int = 6,
        heads: int = 8,
        points_z: Sequence[float] = (-4.5, -2.17, 0.17, 2.5),
        feedforward: int = 512,
        dropout: float = 0.1,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if CROSS_POINTS % len(points_z):
            raise ValueError(f"{CROSS_POINTS} sampling points do not divide among {len(points_z)} pillar points")
        self.shape, self.recompute = grid.shape, recompute
        rows, columns = grid.shape
        self.inputs = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in in_channels)
        self.query = nn.Parameter(torch.randn(rows * columns, width))
        self.row_embedding = nn.Parameter(torch.rand(rows, 1, width // 2))
        self.column_embedding = nn.Parameter(torch.rand(1, columns, width - width // 2))
        self.camera_embedding = nn.Parameter(torch.randn(cameras, width, 1, 1))
        self.level_embedding = nn.Parameter(torch.randn(len(in_channels), width, 1, 1))
        self.layers = nn.ModuleList(
            BevFormerLayer(width, heads, len(in_channels), feedforward, dropout) for _ in range(layers)
        )
        self.register_buffer("centres", cell_centres(rows, columns), persistent=False)
        self.register_buffer("pillars", pillar_points(grid, points_z), persistent=False)

    def forward(self, levels: Sequence[Tensor], cameras: CameraBatch, geometry: PillarGeometry | None = None) -> Tensor:
        """Compute the map (B, width, Y, X).

        levels: (B, N, C, H, W) each, covering the cameras' whole images. geometry: a kept result of `geometry`.
        """
        if geometry is None:
            geometry = self.geometry(cameras, (cameras.images.shape[-2], cameras.images.shape[-1]))
        seen = seen_queries(geometry, cameras.present)
        values = self._values(levels)
        bev = self.query.T.unflatten(1, self.shape).expand(len(cameras.present), -1, -1, -1)
        position = self._position()
        for layer in self.layers:
            if self.recompute and self.training:
                bev = checkpoint(layer, bev, position, self.centres, values, seen, use_reentrant=False)
            else:
                bev = layer(bev, position, self.centres, values, seen)
        return bev

    def geometry(self, cameras: CameraBatch, image_size: tuple[int, int]) -> PillarGeometry:
        """Project the pillars into images of (height, width) [px]; depends on the matrices of `cameras` alone."""
        return project_pillars(self.pillars, cameras, image_size)

    def _values(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Project features to (B·N, width, H, W) each and add the embeddings of their camera and level."""
        return [
            (project(x.flatten(0, 1)).unflatten(0, x.shape[:2]) + self.camera_embedding + of_level).flatten(0, 1)
            for x, project, of_level in zip(levels, self.inputs, self.level_embedding, strict=True)
        ]

    def _position(self) -> Tensor:
        """Position embedding (Y·X, width) of each cell's row and column."""
        rows, columns = self.shape
        return torch.cat(
            [self.row_embedding.expand(-1, columns, -1), self.column_embedding.expand(rows, -1, -1)], dim=-1
        ).flatten(0, 1)


class BevFormerLayer(nn.Module):
    """Transformer layer: self-attention, spatial cross-attention and feed-forward, each with residual, then norm."""

    def __init__(self, width: int, heads: int, levels: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = DeformableAttention(width, heads, SELF_POINTS)
        self.cross_attention = SpatialCrossAttention(width, heads, levels)
        self.feedforward = feed_forward_layers(width, feedforward, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, bev: Tensor, position: Tensor, centres: Tensor, values: Sequence[Tensor], seen: SeenQueries
    ) -> Tensor:
        """Compute the next map (B, width, Y, X) from `bev`, of the same shape.

        position: (Y·X, width). centres: references of the cells. values: (B·N, width, H, W) of each level.
        """
        query = bev.flatten(2).transpose(1, 2)
        query = self.norms[0](query + self.dropout(self.self_attention(query + position, centres, [bev])))
        query = self.norms[1](query + self.dropout(self.cross_attention(query + position, values, seen)))
        query = self.norms[2](query + self.dropout(self.feedforward(query)))
        return query.transpose(1, 2).unflatten(2, bev.shape[2:])


class SpatialCrossAttention(nn.Module):
    """Cross-attention of BEV queries to the cameras that see their pillars: mean over those, zero where none does."""

    def __init__(self, width: int, heads: int, levels: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, heads, CROSS_POINTS, levels)

    def forward(self, query: Tensor, values: Sequence[Tensor], seen: SeenQueries) -> Tensor:
        """Read features (B, Q, width), float32 under autocast.

        query: (B, Q, width). values: (B·N, width, H, W) of each level.
        """
        flat, index = query.flatten(0, 1), seen.cell.flatten()
        asking = flat.index_select(0, index).unflatten(0, seen.cell.shape)
        read = self.attention(asking, seen.reference, values) * seen.share
        return read.new_zeros(flat.shape).index_add(0, index, read.flatten(0, 1)).view_as(query)

"""Deformable attention: every query reads a map at a few places that it predicts.

Source: Deformable DETR (Zhu et al., ICLR 2021, eq. 2 and 3); VeXKD's eq. 1 is the same for one map:
DeformAttn(q, p, x) = Σ_heads W_i Σ_keys A_ij · W'_i x(p + Δp_ij).

A map's cell (row j, column i) covers [i, i + 1) × [j, j + 1), as pixels do; its centre is at (i + 0.5, j + 0.5).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vexkd_model.bev.head_sampling import sample_heads
from vexkd_model.geometry.bev_grid import centres_in_cells


class DeformableAttention(nn.Module):
    """Deformable attention over one map or several levels of a pyramid, whose keys share one softmax.

    channels: of the output, split among the heads. points: keys a head and level. query_channels and value_channels:
    where those of the query and of the maps are not `channels`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        points: int,
        levels: int = 1,
        query_channels: int | None = None,
        value_channels: int | None = None,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not divide among {heads} heads")
        self.heads, self.levels, self.points = heads, levels, points
        keys = heads * levels * points
        self.value_proj = nn.Conv2d(value_channels or channels, channels, 1)
        self.sampling_offsets = nn.Linear(query_channels or channels, keys * 2)
        self.attention_weights = nn.Linear(query_channels or channels, keys)
        self.output_proj = nn.Linear(channels, channels)
        self._reset()

    def forward(self, query: Tensor, reference: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Compute DeformAttn(q, p, x), (B, Q, channels), without the residual.

        query: (B, Q, query_channels). reference: (B or 1, Q, R, 2), the x and y of each query's R reference points as
        shares of the maps' width and height; R divides `points`, and point i moves around reference i mod R.
        maps: the levels, each (B, value_channels, Y, X) of its own size.
        """
        offsets, weights = self._keys(query, reference.dtype)
        around = reference.repeat(1, 1, self.points // reference.shape[2], 1)[:, None]
        sampled = torch.zeros((), dtype=reference.dtype, device=reference.device)
        for x, shift, share in zip(maps, offsets.unbind(3), weights.unbind(3), strict=True):
            positions = _scaled(around, x.shape[3], x.shape[2]) + shift
            sampled = sampled + sample_heads(self._values(x), positions, share)
        # Rounded to the query's precision only here, after the sums over keys and levels.
        return self.output_proj(sampled.flatten(1, 2).transpose(1, 2).to(query.dtype))

    def _keys(self, query: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Predict offsets (B, heads, Q, levels, points, 2) in cells of each level, and weights (…, points)."""
        offsets = self.sampling_offsets(query).to(dtype).unflatten(2, (self.heads, self.levels, self.points, 2))
        weights = self.attention_weights(query).to(dtype).unflatten(2, (self.heads, -1)).softmax(dim=3)
        return offsets.transpose(1, 2), weights.unflatten(3, (self.levels, self.points)).transpose(1, 2)

    def _values(self, x: Tensor) -> Tensor:
        """Project a map (B, value_channels, Y, X) to (B, heads, C, Y, X), a cell's channels side by side in memory."""
        # A product instead of the 1×1 convolution that it is, which would not lay its result out like this.
        rows = functional.linear(x.flatten(2).transpose(1, 2), self.value_proj.weight.flatten(1), self.value_proj.bias)
        return rows.transpose(1, 2).unflatten(2, x.shape[2:]).unflatten(1, (self.heads, -1))

    def _reset(self) -> None:
        """Initialise: point i of head h stands i + 1 cells away in the h-th of even directions; weights are equal."""
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ring = torch.stack([angle.cos(), angle.sin()], dim=-1)
        ring = ring / ring.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)[:, None]
        offsets = (ring[:, None, None] * steps).expand(-1, self.levels, -1, -1)
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.attention_weights, self.value_proj, self.output_proj):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def cell_centres(rows: int, columns: int) -> Tensor:
    """Reference points (1, Y·X, 1, 2) of a map's own cells, row by row: centres (x, y) as shares of the map."""
    return (centres_in_cells((rows, columns)) / torch.tensor([columns, rows])).view(1, rows * columns, 1, 2)


def _scaled(positions: Tensor, of_x: float, of_y: float) -> Tensor:
    return torch.stack([positions[..., 0] * of_x, positions[..., 1] * of_y], dim=-1)

"""Learned masks: BEV queries attend to the teacher's maps.

Source: VeXKD (NeurIPS 2024), its mask generation: queries read the teacher's map through stacked blocks of deformable
attention (eq. 1); one convolution and a sigmoid make a mask of them.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vexkd_model.bev.deformable_attention import DeformableAttention, cell_centres
from vexkd_model.fusion.modality_general import QUERY_STD
from vexkd_model.layers import FeedForward
from vexkd_model.types import BevGrid


class LearnedMasks(nn.Module):
    """Mask generators of the levels: query (C, Y, X), map (B, map_channels, Y, X) → mask (B, 1, Y, X) in (0, 1).

    map_channels: of the teacher's map by level. channels: C. stride: of the queries, in cells; the mask is interpolated
    between them. random: start from learned queries, drawn at random, instead of the given ones.
    """

    def __init__(
        self,
        grid: BevGrid,
        map_channels: Mapping[str, int],
        channels: int,
        blocks: int,
        heads: int,
        points: int,
        feedforward: int,
        stride: int,
        random: bool,
    ) -> None:
        super().__init__()
        self.shape = (math.ceil(grid.shape[0] / stride), math.ceil(grid.shape[1] / stride))
        self.generators = nn.ModuleDict(
            {
                level: MaskGenerator(self.shape, width, channels, blocks, heads, points, feedforward)
                for level, width in map_channels.items()
            }
        )
        self.queries = nn.ParameterDict(
            {
                level: nn.Parameter(QUERY_STD * torch.randn(channels, *self.shape))
                for level in (map_channels if random else ())
            }
        )

    def forward(self, level: str, query: Tensor | None, teacher_map: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        if level in self.queries:
            query = self.queries[level]
        else:
            assert query is not None, "check_pairing wants a fusion with queries"
            query = functional.interpolate(query[None], self.shape, mode="area")[0]
        return self.generators[level](query, teacher_map)


class MaskGenerator(nn.Module):
    """Attention blocks of one level: query (C, *shape), map (B, map_channels, Y, X) → mask (B, 1, Y, X) in (0, 1)."""

    centres: Tensor

    def __init__(
        self,
        shape: tuple[int, int],
        map_channels: int,
        channels: int,
        blocks: int,
        heads: int,
        points: int,
        feedforward: int,
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            DeformableAttention(channels, heads, points, value_channels=map_channels) for _ in range(blocks)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(blocks))
        self.feed_forwards = nn.ModuleList(FeedForward(channels, feedforward, dropout=0.0) for _ in range(blocks))
        self.output = nn.Conv2d(channels, 1, 1)
        self.register_buffer("centres", cell_centres(*shape), persistent=False)

    def forward(self, query: Tensor, teacher_map: Tensor) -> Tensor:
        tokens = query.flatten(1).T.expand(len(teacher_map), -1, -1)
        for attention, norm, feed_forward in zip(self.attentions, self.norms, self.feed_forwards, strict=True):
            tokens = feed_forward(norm(tokens + attention(tokens, self.centres, [teacher_map])))
        logits = self.output(tokens.transpose(1, 2).unflatten(2, query.shape[1:])).float()
        return functional.interpolate(logits, teacher_map.shape[2:], mode="bilinear", align_corners=False).sigmoid()

"""Modality-general fusion: learned BEV queries read the maps of all sensors in the same way, and need none of them.

Source: VeXKD (NeurIPS 2024), its fusion module: six blocks of deformable attention (eq. 1), across the sensors, then
among the queries. The paper states neither heads nor points; ours are Deformable DETR's, 8 and 4.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vexkd_model.bev.deformable_attention import DeformableAttention, cell_centres
from vexkd_model.layers import FeedForward, conv_bn_relu
from vexkd_model.types import BevGrid

# Small, as position embeddings begin: with 1, after an epoch each cell's own noise still outweighed what it had read.
QUERY_STD = 0.02


class ModalityGeneralFusion(nn.Module):
    """Modality-general fusion: maps (B, in_channels of the sensor, Y, X) on `grid` → (B, channels, Y, X).

    Its by-product `query`, (channels, Y, X), are the learned queries, from which distillation's masks start. recompute:
    in training, keep no activations of a block but compute them again.
    """

    centres: Tensor

    def __init__(
        self,
        grid: BevGrid,
        in_channels: Mapping[str, int],
        channels: int,
        blocks: int = 6,
        heads: int = 8,
        points: int = 4,
        feedforward: int = 512,
        dropout: float = 0.1,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.recompute = channels, recompute
        self.query = nn.Parameter(QUERY_STD * torch.randn(channels, *grid.shape))
        self.blocks = nn.ModuleList(
            FusionBlock(in_channels, channels, heads, points, feedforward, dropout) for _ in range(blocks)
        )
        # The queries leave the last norm with the same length in every cell. Attention transfer compares lengths: a
        # convolution and a ReLU let what is there stand out again, as in every other low-level map.
        self.output = conv_bn_relu(channels, channels)
        self.register_buffer("centres", cell_centres(*grid.shape), persistent=False)

    def forward(self, maps: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Fuse maps by sensor, in any order, of which one may be missing.

        present: bool (B,) by sensor, the samples in which it saw anything.
        """
        bev = self.query.expand(len(next(iter(maps.values()))), -1, -1, -1)
        for block in self.blocks:
            if self.recompute and self.training:
                bev = checkpoint(block, bev, self.centres, maps, present, use_reentrant=False)
            else:
                bev = block(bev, self.centres, maps, present)
        return self.output(bev)


class FusionBlock(nn.Module):
    """Block: queries read every sensor's map, then one another; each with residual, norm, feed-forward, norm."""

    def __init__(
        self, in_channels: Mapping[str, int], channels: int, heads: int, points: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        # From [Q ; F] each sensor predicts where it is to be read, and with which weights.
        self.across = nn.ModuleDict(
            {
                sensor: DeformableAttention(
                    channels, heads, points, query_channels=channels + of_sensor, value_channels=of_sensor
                )
                for sensor, of_sensor in in_channels.items()
            }
        )
        self.among = DeformableAttention(channels, heads, points)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.feed_forwards = nn.ModuleList(FeedForward(channels, feedforward, dropout) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, bev: Tensor, centres: Tensor, maps: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Update the queries `bev` (B, channels, Y, X). centres: references of the cells. maps, present: by sensor."""
        query = bev.flatten(2).transpose(1, 2)
        read = sum(self._read(sensor, query, centres, x) * present[sensor].view(-1, 1, 1) for sensor, x in maps.items())
        query = self.feed_forwards[0](self.norms[0](query + self.dropout(read)))
        bev = query.transpose(1, 2).unflatten(2, bev.shape[2:])
        query = self.feed_forwards[1](self.norms[1](query + self.dropout(self.among(query, centres, [bev]))))
        return query.transpose(1, 2).unflatten(2, bev.shape[2:])

    def _read(self, sensor: str, query: Tensor, centres: Tensor, x: Tensor) -> Tensor:
        features = x.flatten(2).transpose(1, 2)
        return self.across[sensor](torch.cat([query, features.to(query.dtype)], dim=2), centres, [x])

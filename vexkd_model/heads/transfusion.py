"""TransFusionHead: detection by queries that start at the peaks of a heatmap of the high-level map.

Source: TransFusion (Bai et al., CVPR 2022), its LiDAR part with one decoder layer, as BEVFusion (Liu et al., ICRA 2023)
uses it. The losses are in transfusion_loss.py, the way to boxes in decode.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vexkd_model.geometry.bev_grid import centres_in_cells
from vexkd_model.heads.center import HEATMAP_BIAS, REGRESSION_CHANNELS
from vexkd_model.layers import BatchNorm1d, Conv2d, conv_bn_relu, feed_forward_layers
from vexkd_model.types import DETECTION_CLASSES

CLASSES = len(DETECTION_CLASSES)
# Two of these may stand in neighbouring cells, so each of their cells counts as a peak.
CELL_SIZED = ("pedestrian", "traffic_cone")
PREDICTION_CHANNELS = 64


class TransFusionOutput(NamedTuple):
    """Predictions of P proposals per frame, one object each.

    heatmap: logits (B, 10, Y, X), dense. cell: int64 (B, P), flat (Y, X) index of the cell where the query stands.
    label: int64 (B, P), the class whose peak it stands on. score: (B, P) the heatmap's probability there, without
    gradient; 0 where there were fewer peaks than proposals.
    logits: (B, P, 10). offset: (B, P, 2), the box's centre in cells (x, y) from the cell's centre. height: (B, P, 1),
    z of the centre [m]. size: (B, P, 3), logarithms of length, width, height [m]. heading: (B, P, 2), sin and cos of
    yaw. velocity: (B, P, 2), vx, vy [m/s].
    """

    heatmap: Tensor
    cell: Tensor
    label: Tensor
    score: Tensor
    logits: Tensor
    offset: Tensor
    height: Tensor
    size: Tensor
    heading: Tensor
    velocity: Tensor


class TransFusionHead(nn.Module):
    """TransFusion's head: (B, C, Y, X) → TransFusionOutput with `proposals` a frame, at most 10 · Y · X."""

    cell_sized: Tensor

    def __init__(
        self, in_channels: int, channels: int, proposals: int, heads: int, feed_forward: int, dropout: float
    ) -> None:
        super().__init__()
        self.proposals = proposals
        self.shared = Conv2d(in_channels, channels, 3, padding=1)
        self.heatmap = nn.Sequential(conv_bn_relu(channels, channels), Conv2d(channels, CLASSES, 3, padding=1))
        self.class_encoding = nn.Linear(CLASSES, channels)
        self.query_position = PositionEmbedding(channels)
        self.key_position = PositionEmbedding(channels)
        self.decoder = DecoderLayer(channels, heads, feed_forward, dropout)
        self.predictions = nn.ModuleDict(
            {name: _prediction(channels, fields) for name, fields in {"logits": CLASSES, **REGRESSION_CHANNELS}.items()}
        )
        self.register_buffer(
            "cell_sized", torch.tensor([name in CELL_SIZED for name in DETECTION_CLASSES]), persistent=False
        )
        nn.init.constant_(self.heatmap.get_parameter("1.bias"), HEATMAP_BIAS)
        nn.init.constant_(self.predictions["logits"].get_parameter("3.bias"), HEATMAP_BIAS)

    def forward(self, high: Tensor) -> TransFusionOutput:
        shared = self.shared(high)
        heatmap = self.heatmap(shared)
        score, label, cell = self._propose(heatmap)
        keys = shared.flatten(2).transpose(1, 2)
        position = centres_in_cells(shared.shape[2:], shared.device).flatten(0, 1)
        query = keys.gather(1, cell[..., None].expand(-1, -1, keys.shape[2]))
        query = query + self.class_encoding(functional.one_hot(label, CLASSES).to(query.dtype))
        query = self.decoder(query, keys, self.query_position(position[cell]), self.key_position(position))
        # One long list of queries, because batch norm takes its statistics over the first dimension.
        fields = {
            name: predict(query.flatten(0, 1)).unflatten(0, label.shape) for name, predict in self.predictions.items()
        }
        return TransFusionOutput(heatmap, cell, label, score, **fields)

    def _propose(self, heatmap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the best peaks over all classes, best first: score, label and cell, (B, P) each."""
        probability = peaks(heatmap.detach().float().sigmoid(), self.cell_sized)
        score, best = probability.flatten(1).topk(self.proposals)
        cells = heatmap.shape[2] * heatmap.shape[3]
        return score, best // cells, best % cells


class DecoderLayer(nn.Module):
    """Decoder layer: self-attention, cross-attention to the map, feed-forward; each with residual, then norm.

    As published, positions are added to the values too, not only to queries and keys.
    """

    def __init__(self, channels: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(channels, heads, dropout)
        self.cross_attention = Attention(channels, heads, dropout)
        self.feed_forward = feed_forward_layers(channels, feed_forward, dropout)
        # The last without bias: the batch norm of every prediction would take it away again.
        self.norms = nn.ModuleList(nn.LayerNorm(channels, bias=bias) for bias in (True, True, False))
        self.dropout = nn.Dropout(dropout)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, query: Tensor, keys: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
        """Update the queries (B, P, C). query_position: (B, P, C). keys: (B, L, C); key_position: (L, C)."""
        placed = query + query_position
        query = self.norms[0](query + self.dropout(self.self_attention(placed, placed)))
        attended = self.cross_attention(query + query_position, keys + key_position)
        query = self.norms[1](query + self.dropout(attended))
        return self.norms[2](query + self.dropout(self.feed_forward(query)))


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) of queries (B, P, C) to tokens (B, L, C) → (B, P, C)."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not divide among {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)  # softmax does not see a bias of all keys
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        query, key, value = (
            projected.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query(queries), self.key(tokens), self.value(tokens))
        )
        attended = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out(attended.transpose(1, 2).flatten(2))


class PositionEmbedding(nn.Module):
    """Learned position embedding: x and y in cells (…, 2) → (…, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, channels, bias=False),
            BatchNorm1d(channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
        )

    def forward(self, position: Tensor) -> Tensor:
        # In float32 whatever the rest runs in: bfloat16 is off by half a cell at cell 150.
        with torch.autocast(position.device.type, enabled=False):
            return self.layers(position.flatten(0, -2)).unflatten(0, position.shape[:-1])


def peaks(probability: Tensor, cell_sized: Tensor) -> Tensor:
    """Keep the peaks of (B, K, Y, X) in [0, 1]; zero where one of the eight neighbours is more, and on the border.

    Of the classes in `cell_sized`, bool (K,), every cell is a peak, on the border too.
    """
    inner = functional.max_pool2d(probability, 3, stride=1)
    highest = functional.pad(inner, (1, 1, 1, 1), value=2.0)  # on the border, what no probability reaches
    return torch.where((probability == highest) | cell_sized[:, None, None], probability, 0.0)


def _prediction(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, PREDICTION_CHANNELS, bias=False),
        BatchNorm1d(PREDICTION_CHANNELS),
        nn.ReLU(inplace=True),
        nn.Linear(PREDICTION_CHANNELS, out_channels),
    )

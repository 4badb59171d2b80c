"""The feed-forward half of a transformer layer."""

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Two linear layers with a residual, then norm: (…, channels) → (…, channels)."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
                                    nn.Linear(hidden, channels), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.layers(x))

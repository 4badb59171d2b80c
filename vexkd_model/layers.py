"""Layers that several networks share: batch norm, convolution with it, residual block, feed-forward.

The order of the layers is part of their names in saved weights.
"""

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

BEV_EPS = 1e-3  # epsilon of batch norms on BEV maps: SECOND's
IMAGE_EPS = 1e-5  # epsilon of batch norms on image features: PyTorch's default


class _TakesOneValue(_BatchNorm):
    """Batch norm that takes one value a channel, which has no variance: the running statistics serve it in training."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == self.num_features:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class BatchNorm1d(_TakesOneValue, nn.BatchNorm1d):
    """Batch norm (N, C) → (N, C), also of N = 1 in training."""


class BatchNorm2d(_TakesOneValue, nn.BatchNorm2d):
    """Batch norm (B, C, Y, X) → (B, C, Y, X), also of a single cell in training."""


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, eps: float = BEV_EPS
) -> nn.Sequential:
    """Make convolution, batch norm, ReLU: (B, in_channels, Y, X) → (B, out_channels, ⌈Y / stride⌉, ⌈X / stride⌉).

    kernel: odd.
    """
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation, bias=False
        ),
        BatchNorm2d(out_channels, eps=eps),
        nn.ReLU(inplace=True),
    )


class BasicBlock(nn.Module):
    """Residual block of two 3×3 convolutions, with a third one as shortcut where the size changes.

    (B, in_channels, Y, X) → (B, out_channels, ⌈Y / stride⌉, ⌈X / stride⌉); a stride of 1 keeps in_channels. Source:
    He et al. (CVPR 2016), figure 2; the 3×3 shortcut without a norm is BEVDet's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, eps: float = BEV_EPS) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn_relu(in_channels, out_channels, stride=stride, eps=eps),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels, eps=eps),
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.layers(x) + self.shortcut(x)).relu()


def feed_forward_layers(channels: int, hidden: int, dropout: float) -> nn.Sequential:
    """Make the feed-forward network of a transformer layer (Vaswani et al. 2017): (…, channels) → (…, channels)."""
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, channels)
    )


class FeedForward(nn.Module):
    """Feed-forward network with a residual, then norm: (…, channels) → (…, channels)."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = feed_forward_layers(channels, hidden, dropout).append(nn.Dropout(dropout))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.layers(x))

"""The brick of necks and depth networks."""

from torch import nn


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; padded so that a size of k · stride becomes k."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation,
                  bias=False),
        nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))

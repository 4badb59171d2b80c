"""Published networks in plain PyTorch, small, whose modules have the published names.

Written from their public structure: mmdetection3d, CenterPoint, BEVDet, BEVFusion. Their state dicts are what a
checkpoint of theirs holds.
"""

import torch
from torch import nn
from torch.nn import functional as F


def randomised(network, seed=0):
    """Randomise every weight and statistic, with variances so small that a norm's epsilon counts; in eval mode."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.005, 0.05)
            nn.init.uniform_(module.weight, 0.1, 0.3)
            nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
        elif getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


def named(**modules):
    network = nn.Module()
    for name, module in modules.items():
        network.add_module(name, module)
    return network


def conv_module(in_channels, out_channels, kernel=3, conv=nn.Conv2d, norm=nn.BatchNorm2d):
    """Make mmcv's ConvModule: the convolution and its norm have names, the ReLU has one too, without weights."""
    module = nn.Sequential()
    module.add_module("conv", conv(in_channels, out_channels, kernel, padding=kernel // 2, bias=False))
    module.add_module("bn", norm(out_channels))
    module.add_module("activate", nn.ReLU())
    return module


class SparseConv(nn.Module):
    """Sparse convolution of spconv, on a dense grid: (x (1, C, Z, Y, X), mask (1, 1, Z, Y, X)) → the same.

    Weights: (out, kz, ky, kx, in).

    stride 1: a submanifold convolution, its result only where there was a voxel; else wherever the kernel meets one.
    """

    def __init__(self, in_channels, out_channels, kernel=(3, 3, 3), stride=1, padding=(1, 1, 1), bias=False):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.randn(out_channels, *kernel, in_channels) / (in_channels * 9) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x, mask):
        x = F.conv3d(x, self.weight.permute(0, 4, 1, 2, 3), self.bias, self.stride, self.padding)
        if self.stride != 1:
            mask = F.max_pool3d(mask, self.weight.shape[1:4], self.stride, self.padding)
        return x * mask, mask


class SparseNorm(nn.BatchNorm1d):
    def __init__(self, channels):
        super().__init__(channels, eps=1e-3)

    def forward(self, x, mask):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps) * mask


class SparseRelu(nn.Module):
    def forward(self, x, mask):
        return x.relu()


class SparseSequential(nn.Sequential):
    def forward(self, x, mask):
        for layer in self:
            x, mask = (
                layer(x, mask)
                if isinstance(layer, SparseConv | SparseBlock | SparseSequential)
                else (layer(x, mask), mask)
            )
        return x, mask


class SparseBlock(nn.Module):
    def __init__(self, channels, bias):
        super().__init__()
        self.conv1, self.bn1 = SparseConv(channels, channels, bias=bias), SparseNorm(channels)
        self.conv2, self.bn2 = SparseConv(channels, channels, bias=bias), SparseNorm(channels)

    def forward(self, x, mask):
        out = self.bn1(*self.conv1(x, mask)).relu()
        return (self.bn2(*self.conv2(out, mask)) + x).relu(), mask


def sparse_layers(in_channels, out_channels, **how):
    return [SparseConv(in_channels, out_channels, **how), SparseNorm(out_channels), SparseRelu()]


def on_grid(features, voxels, shape):
    """Scatter features (V, C) of voxels (V, 3) z, y, x onto a grid (1, C, Z, Y, X); also return the mask of voxels."""
    x, mask = features.new_zeros(1, features.shape[1], *shape), features.new_zeros(1, 1, *shape)
    x[0, :, voxels[:, 0], voxels[:, 1], voxels[:, 2]] = features.T
    mask[0, 0, voxels[:, 0], voxels[:, 1], voxels[:, 2]] = 1
    return x, mask


class SparseEncoder(nn.Module):
    """SparseEncoder of mmdetection3d. x_first: BEVFusion's, with voxels (x, y, z) and maps (B, C, X, Y)."""

    def __init__(self, channels, out_channels, x_first=False):
        super().__init__()
        self.x_first = x_first
        order = (lambda zyx: zyx[::-1]) if x_first else (lambda zyx: zyx)
        self.conv_input = SparseSequential(*sparse_layers(5, channels[0]))
        self.encoder_layers = SparseSequential()
        for i, width in enumerate(channels):
            stage = [SparseBlock(width, False), SparseBlock(width, False)]
            if i + 1 < len(channels):
                padding = order((0, 1, 1)) if i + 2 == len(channels) else (1, 1, 1)
                stage.append(SparseSequential(*sparse_layers(width, channels[i + 1], stride=2, padding=padding)))
            self.encoder_layers.add_module(f"encoder_layer{i + 1}", SparseSequential(*stage))
        self.conv_out = SparseSequential(
            *sparse_layers(
                channels[-1], out_channels, kernel=order((3, 1, 1)), stride=order((2, 1, 1)), padding=(0, 0, 0)
            )
        )

    def forward(self, features, voxels, shape):
        """Encode voxels (V, 3) z, y, x; shape: (Z, Y, X)."""
        grid = on_grid(features, voxels.flip(1), shape[::-1]) if self.x_first else on_grid(features, voxels, shape)
        x, _ = self.conv_out(*self.encoder_layers(*self.conv_input(*grid)))
        return (x.permute(0, 1, 4, 2, 3) if self.x_first else x).flatten(1, 2)


class CenterPointSparseEncoder(nn.Module):
    """SparseEncoder of CenterPoint's repository: the convolutions of its blocks have biases."""

    def __init__(self, channels, out_channels):
        super().__init__()
        self.conv_input = SparseSequential(*sparse_layers(5, channels[0]))
        for i, width in enumerate(channels):
            padding = (0, 1, 1) if i + 1 == len(channels) else (1, 1, 1)
            down = [] if i == 0 else sparse_layers(channels[i - 1], width, stride=2, padding=padding)
            self.add_module(f"conv{i + 1}", SparseSequential(*down, SparseBlock(width, True), SparseBlock(width, True)))
        self.extra_conv = SparseSequential(
            *sparse_layers(channels[-1], out_channels, kernel=(3, 1, 1), stride=(2, 1, 1), padding=(0, 0, 0))
        )

    def forward(self, features, voxels, shape):
        x = self.conv_input(*on_grid(features, voxels, shape))
        for name in ("conv1", "conv2", "conv3", "conv4", "extra_conv"):
            x = getattr(self, name)(*x)
        return x[0].flatten(1, 2)


class Second(nn.Module):
    """SECOND. padded: stages begin with a layer that pads, as CenterPoint's, and so count from one."""

    def __init__(self, in_channels, channels, layers, strides, padded=False):
        super().__init__()
        self.blocks = nn.ModuleList()
        for width, count, stride in zip(channels, layers, strides, strict=True):
            first = nn.Conv2d(in_channels, width, 3, stride, padding=0 if padded else 1, bias=False)
            stage = [*([nn.ZeroPad2d(1)] if padded else []), first, nn.BatchNorm2d(width, eps=1e-3), nn.ReLU()]
            for _ in range(count):
                stage += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, eps=1e-3), nn.ReLU()]
            self.blocks.append(nn.Sequential(*stage))
            in_channels = width

    def forward(self, x):
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps


class SecondFpn(nn.Module):
    def __init__(self, in_channels, out_channels, strides):
        super().__init__()
        self.deblocks = nn.ModuleList()
        for width, stride in zip(in_channels, strides, strict=True):
            kernel = round(max(stride, 1 / stride))
            layer = nn.ConvTranspose2d if stride > 1 else nn.Conv2d
            self.deblocks.append(
                nn.Sequential(
                    layer(width, out_channels, kernel, kernel, bias=False),
                    nn.BatchNorm2d(out_channels, eps=1e-3),
                    nn.ReLU(),
                )
            )

    def forward(self, maps):
        return torch.cat([deblock(x) for deblock, x in zip(self.deblocks, maps, strict=True)], dim=1)


class CenterPointRpn(nn.Module):
    """SECOND and its FPN in one module, as in CenterPoint's repository."""

    def __init__(self, in_channels, channels, layers, out_channels):
        super().__init__()
        self.blocks = Second(in_channels, channels, layers, (1, 2), padded=True).blocks
        self.deblocks = SecondFpn(channels, out_channels, (1, 2)).deblocks

    def forward(self, x):
        first = self.blocks[0](x)
        return torch.cat([self.deblocks[0](first), self.deblocks[1](self.blocks[1](first))], dim=1)


TASK_CLASSES = (1, 2, 2, 1, 2, 2)
FIELDS = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}


class CenterHead(nn.Module):
    """CenterHead of mmdetection3d."""

    def __init__(self, in_channels, channels):
        super().__init__()
        self.shared_conv = conv_module(in_channels, channels)
        self.task_heads = nn.ModuleList(
            named(
                **{
                    field: nn.Sequential(conv_module(channels, channels), nn.Conv2d(channels, width, 3, padding=1))
                    for field, width in {**FIELDS, "heatmap": classes}.items()
                }
            )
            for classes in TASK_CLASSES
        )

    def forward(self, x):
        x = self.shared_conv(x)
        return [{name: branch(x) for name, branch in task.named_children()} for task in self.task_heads]


class CenterPointHead(nn.Module):
    """CenterHead of CenterPoint's repository: convolutions before norms have biases, and the heatmap is `hm`."""

    def __init__(self, in_channels, channels):
        super().__init__()
        self.shared_conv = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.tasks = nn.ModuleList(
            named(
                **{
                    field: nn.Sequential(
                        nn.Conv2d(channels, channels, 3, padding=1),
                        nn.BatchNorm2d(channels),
                        nn.ReLU(),
                        nn.Conv2d(channels, width, 3, padding=1),
                    )
                    for field, width in {**FIELDS, "hm": classes}.items()
                }
            )
            for classes in TASK_CLASSES
        )

    def forward(self, x):
        x = self.shared_conv(x)
        maps = [{name: branch(x) for name, branch in task.named_children()} for task in self.tasks]
        return [{"heatmap": task.pop("hm"), **task} for task in maps]


class BasicBlock(nn.Module):
    def __init__(self, in_channels, channels, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x):
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet18(nn.Module):
    """ResNet-18 of torchvision and mmdetection: maps of the two last stages."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64)
        before = 64
        for i, width in enumerate((64, 128, 256, 512)):
            shortcut = (
                None if i == 0 else nn.Sequential(nn.Conv2d(before, width, 1, 2, bias=False), nn.BatchNorm2d(width))
            )
            self.add_module(
                f"layer{i + 1}",
                nn.Sequential(BasicBlock(before, width, 1 if i == 0 else 2, shortcut), BasicBlock(width, width)),
            )
            before = width

    def forward(self, x):
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, padding=1)
        third = self.layer3(self.layer2(self.layer1(x)))
        return third, self.layer4(third)


class FinestFpn(nn.Module):
    """FPN of BEVDet: CustomFPN and FPNForBEVDet."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.lateral_convs = nn.ModuleList(named(conv=nn.Conv2d(width, out_channels, 1)) for width in in_channels)
        self.fpn_convs = nn.ModuleList([named(conv=nn.Conv2d(out_channels, out_channels, 3, padding=1))])

    def forward(self, maps):
        fine, coarse = (lateral.conv(x) for lateral, x in zip(self.lateral_convs, maps, strict=True))
        return self.fpn_convs[0].conv(fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest"))


class BevResNet(nn.Module):
    """BEV encoder of BEVDet: CustomResNet and ResNetForBEVDet."""

    def __init__(self, in_channels, channels, blocks, strides=(2, 2, 2)):
        super().__init__()
        self.layers = nn.Sequential()
        for width, count, stride in zip(channels, blocks, strides, strict=False):
            shortcut = nn.Conv2d(in_channels, width, 3, stride, padding=1)
            self.layers.append(
                nn.Sequential(
                    BasicBlock(in_channels, width, stride, shortcut),
                    *(BasicBlock(width, width) for _ in range(count - 1)),
                )
            )
            in_channels = width

    def forward(self, x):
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps


class FpnLss(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        wide = 2 * out_channels
        self.up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=True)
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        )
        self.up2 = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(wide, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 1),
        )

    def forward(self, maps):
        return self.up2(self.conv(torch.cat([maps[0], self.up(maps[-1])], dim=1)))

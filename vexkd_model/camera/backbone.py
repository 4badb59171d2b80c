"""Image backbones: images → feature maps at strides 4, 8, 16 and 32, the stages 1 … 4.

Source: ResNet (He et al., CVPR 2016) with the stride in a bottleneck's 3×3 convolution, as torchvision's; Swin
Transformer (Liu et al., ICCV 2021). The layers are those of transformers, and so are the names of the weights.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

# transformers is imported where a backbone is built: it takes seconds, and a model of LiDAR alone starts without it.

BackboneName = Literal["resnet18", "resnet50", "resnet101", "swin_tiny"]
RESNETS = {
    "resnet18": ("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
    "resnet50": ("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
    "resnet101": ("bottleneck", [3, 4, 23, 3], [256, 512, 1024, 2048]),
}
SWIN_DEPTHS, SWIN_HEADS, SWIN_CHANNELS, SWIN_WINDOW, SWIN_DROP_PATH = [2, 2, 6, 2], [3, 6, 12, 24], 96, 7, 0.2
RGB_MEAN, RGB_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, as all pretrained weights expect
# With recompute: blocks between two kept activations, and pixels that are recomputed at once.
BLOCKS_A_PIECE, PIXELS_AT_ONCE = 6, 900 * 1600

Step = Callable[[Tensor], Tensor]


class ImageBackbone(nn.Module):
    """Backbone of a ResNet or Swin-T: uint8 RGB (M, 3, H, W) → (M, channels[i], ⌈H / s⌉, ⌈W / s⌉) of each stage.

    stages: increasing, of 1 … 4; nothing deeper than the last one is built.
    frozen_norms: batch norms keep their statistics and affine weights, in training too (BEVFormer's setting).
    recompute: in training, activations are computed anew in the backward pass instead of kept. It changes memory and
        time only. Where images do not meet in a batch norm, it goes through a few images at a time.
    """

    rgb_mean: Tensor
    rgb_std: Tensor

    def __init__(
        self, name: BackboneName, stages: Sequence[int], frozen_norms: bool = False, recompute: bool = False
    ) -> None:
        super().__init__()
        if not stages or list(stages) != sorted(set(stages)) or not set(stages) <= {1, 2, 3, 4}:
            raise ValueError(f"stages {list(stages)}: give increasing ones of 1, 2, 3, 4")
        if name == "swin_tiny" and frozen_norms:
            raise ValueError("swin_tiny has no batch norms to freeze")
        self.name, self.stages, self.recompute = name, tuple(stages), recompute
        self.body = SwinBody(self.stages) if name == "swin_tiny" else ResNetBody(*RESNETS[name], self.stages)
        self.register_buffer("rgb_mean", torch.tensor(RGB_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("rgb_std", torch.tensor(RGB_STD).view(3, 1, 1), persistent=False)
        self.frozen_norms = frozen_norms
        if frozen_norms:
            for norm in _batch_norms(self):
                norm.requires_grad_(False).eval()

    @property
    def channels(self) -> list[int]:
        """Channels of each map."""
        return self.body.channels

    def train(self, mode: bool = True) -> "ImageBackbone":
        super().train(mode)
        if self.frozen_norms:
            for norm in _batch_norms(self):
                norm.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return self._maps(images, lambda step, x: step(x))
        recomputed = partial(_recomputed, context_fn=lambda: (nullcontext(), _keeping_statistics(self)))
        chunks = [self._maps(chunk, recomputed) for chunk in images.split(self._images_at_once(images))]
        return [torch.cat(maps) for maps in zip(*chunks, strict=True)]

    def _maps(self, images: Tensor, run: Callable[[Step, Tensor], Tensor]) -> list[Tensor]:
        x = run(self._stem, images)
        maps = []
        for stage in range(1, self.stages[-1] + 1):
            for piece in self.body.pieces(stage):
                x = run(piece, x)
            if stage in self.stages:
                maps.append(self.body.output(stage, x))
        return maps

    def _stem(self, images: Tensor) -> Tensor:
        return self.body.stem((images - self.rgb_mean) / self.rgb_std)

    def _images_at_once(self, images: Tensor) -> int:
        if any(norm.training for norm in _batch_norms(self)):
            return max(1, len(images))
        return max(1, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1]))


class ResNetBody(nn.Module):
    """Layers of a ResNet down to the last of `stages`. Activations: (M, C, h, w)."""

    def __init__(self, block: str, depths: list[int], channels: list[int], stages: Sequence[int]) -> None:
        from transformers import ResNetBackbone, ResNetConfig

        super().__init__()
        last = stages[-1]
        net = ResNetBackbone(
            ResNetConfig(
                layer_type=block,
                depths=depths[:last],
                hidden_sizes=channels[:last],
                embedding_size=64,
                downsample_in_bottleneck=False,
            )
        )
        self.embedder, self.encoder = net.embedder, net.encoder
        self.channels = [channels[stage - 1] for stage in stages]

    def stem(self, images: Tensor) -> Tensor:
        return self.embedder(images)

    def pieces(self, stage: int) -> list[Step]:
        blocks = _layers(self.encoder, "stages")[stage - 1].get_submodule("layers")
        assert isinstance(blocks, nn.Sequential)
        return [blocks[i : i + BLOCKS_A_PIECE] for i in range(0, len(blocks), BLOCKS_A_PIECE)]

    def output(self, stage: int, x: Tensor) -> Tensor:
        return x


class SwinBody(nn.Module):
    """Layers of a Swin-T down to the last of `stages`, with a norm at each of them. Activations: (M, h, w, C)."""

    def __init__(self, stages: Sequence[int]) -> None:
        from transformers import SwinBackbone, SwinConfig

        super().__init__()
        depths = SWIN_DEPTHS[: stages[-1]]
        # The rate grows linearly over the whole network: the blocks that are built keep theirs.
        drop_path = SWIN_DROP_PATH * (sum(depths) - 1) / (sum(SWIN_DEPTHS) - 1)
        net = SwinBackbone(
            SwinConfig(
                embed_dim=SWIN_CHANNELS,
                depths=depths,
                num_heads=SWIN_HEADS[: stages[-1]],
                window_size=SWIN_WINDOW,
                drop_path_rate=drop_path,
                out_indices=list(stages),  # pyright: ignore[reportCallIssue]
            )
        )
        self.swin, self.hidden_states_norms = net.swin, net.hidden_states_norms
        self.swin.add_module("layernorm", nn.Identity())  # a classifier's
        self.channels = [SWIN_CHANNELS * 2 ** (stage - 1) for stage in stages]
        for layer in _layers(self.swin.encoder, "layers"):
            for block in _layers(layer, "blocks"):
                # Swin drops both branches of a block; transformers drops only the attention.
                block.get_submodule("mlp").register_forward_hook(partial(_through, block.get_submodule("drop_path")))

    def stem(self, images: Tensor) -> Tensor:
        tokens, size = self.swin.embeddings(images)
        return tokens.unflatten(1, size)

    def pieces(self, stage: int) -> list[Step]:
        layers = _layers(self.swin.encoder, "layers")
        merging: list[Step] = []
        if stage > 1:
            merging.append(partial(_merged, layers[stage - 2].get_submodule("downsample")))
        blocks = _layers(layers[stage - 1], "blocks")
        return merging + [
            partial(_through_blocks, blocks[i : i + BLOCKS_A_PIECE]) for i in range(0, len(blocks), BLOCKS_A_PIECE)
        ]

    def output(self, stage: int, x: Tensor) -> Tensor:
        return self.hidden_states_norms[f"stage{stage}"](x).permute(0, 3, 1, 2).contiguous()


def _layers(module: nn.Module, name: str) -> nn.ModuleList:
    layers = module.get_submodule(name)
    assert isinstance(layers, nn.ModuleList)
    return layers


def _merged(downsample: nn.Module, x: Tensor) -> Tensor:
    """Merge patches: (M, h, w, C) → (M, ⌈h / 2⌉, ⌈w / 2⌉, 2 C)."""
    rows, columns = x.shape[1:3]
    return downsample(x.flatten(1, 2), (rows, columns)).unflatten(1, ((rows + 1) // 2, (columns + 1) // 2))


def _through_blocks(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    """Run Swin blocks: (M, h, w, C) → the same shape; a map smaller than a window is padded to one."""
    size = x.shape[1:3]
    tokens = x.flatten(1, 2)
    for block in blocks:
        tokens, _ = block(tokens, size, always_partition=True)
    return tokens.unflatten(1, size)


def _through(after: nn.Module, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return after(output)


def _batch_norms(module: nn.Module) -> list[_BatchNorm]:
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


def _recomputed(step: Step, x: Tensor, context_fn: Callable) -> Tensor:
    return checkpoint(step, x, use_reentrant=False, context_fn=context_fn)


@contextmanager
def _keeping_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the statistics of batch norms while their input passes a second time, in the recomputation."""
    norms = [norm for norm in _batch_norms(module) if norm.training]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.get_buffer("num_batches_tracked") for norm in norms]
    before = [count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count, earlier in zip(norms, momenta, counts, before, strict=True):
            norm.momentum = momentum
            count.copy_(earlier)

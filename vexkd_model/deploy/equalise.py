"""Equalisation of channels before quantisation: the same function, with activations of similar range in every channel.

Eight bits have one range for a whole map; a channel of small values would keep two or three of them. A ReLU passes a
positive factor on, so that it can be taken from a channel and given to the weights that read it. Source: cross-layer
equalisation (Nagel et al., ICCV 2019), with the balance between activations and weights of SmoothQuant (Xiao et al.,
ICML 2023, eq. 4).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.deploy.graph import Trunk
from vexkd_model.heads.center import CenterHead

Layer = nn.Conv2d | nn.ConvTranspose2d
LEAST_SHARE = 1e-3  # of the largest channel: what a silent channel counts as
MOST = 64.0  # factor


@torch.no_grad()
def equalise(trunk: Trunk, canvases: Sequence[Tensor], strength: float) -> None:
    """Rescale the channels of a trunk with folded batch norms, in place. strength: 1 looks at activations alone."""
    links = list(_links(trunk))
    largest = _largest_activations(trunk, [layer for layer, _ in links], canvases)
    for layer, readers in links:
        peak = largest[layer]
        peak = peak.clamp(min=max(LEAST_SHARE * float(peak.max()), 1e-9))
        read = (
            torch.stack(
                [
                    _read_weights(reader, first, layer.out_channels).abs().amax(dim=(0, 2, 3))
                    for reader, first in readers
                ]
            )
            .amax(dim=0)
            .clamp(min=1e-6)
        )
        factor = peak**strength / read ** (1 - strength)
        factor = (factor / factor.log().mean().exp()).clamp(1 / MOST, MOST)
        layer.weight.div_(factor.view((1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else (-1, 1, 1, 1)))
        if layer.bias is not None:
            layer.bias.div_(factor)
        for reader, first in readers:
            _read_weights(reader, first, layer.out_channels).mul_(factor.view(1, -1, 1, 1))


def _links(trunk: Trunk) -> Iterator[tuple[Layer, list[tuple[Layer, int]]]]:
    """Each layer that a ReLU follows, with those that read it, and the first of their input channels that is its own.

    An encoder or head of another kind than the small students' is left as it is.
    """
    stem = _layers(trunk.stem)
    yield from _chain(stem)
    if not isinstance(trunk.bev, BevEncoder):
        return
    stages, laterals = [_layers(stage) for stage in trunk.bev.stages], [_layers(one)[0] for one in trunk.bev.laterals]
    if stem:
        yield stem[-1], [(stages[0][0], 0)]
    for stage, following, lateral in zip(stages, [*stages[1:], []], laterals, strict=True):
        yield from _chain(stage)
        yield stage[-1], [(reader, 0) for reader in (*following[:1], lateral)]
    heads = []
    if isinstance(trunk.detection, CenterHead):
        shared, tasks = _layers(trunk.detection.shared), [_layers(task) for task in trunk.detection.tasks]
        if all(len(task) == 2 for task in tasks):  # not branch by branch
            yield shared[0], [(task[0], 0) for task in tasks]
            for task in tasks:
                yield from _chain(task)
        heads.append(shared[0])
    if trunk.segmentation is not None:
        layers = _layers(trunk.segmentation)
        yield from _chain(layers)
        heads.append(layers[0])
    first = 0
    for lateral in laterals:
        yield lateral, [(head, first) for head in heads]
        first += lateral.out_channels


def _layers(module: nn.Module) -> list[Layer]:
    return [layer for layer in module.modules() if isinstance(layer, Layer)]


def _chain(layers: Sequence[Layer]) -> Iterator[tuple[Layer, list[tuple[Layer, int]]]]:
    for layer, following in pairwise(layers):
        yield layer, [(following, 0)]


def _read_weights(reader: Layer, first: int, count: int) -> Tensor:
    """View (out, count, h, w) of the weights that read `count` channels from `first` on."""
    weight = reader.weight.transpose(0, 1) if isinstance(reader, nn.ConvTranspose2d) else reader.weight
    return weight[:, first : first + count]


def _largest_activations(trunk: Trunk, layers: Sequence[Layer], canvases: Sequence[Tensor]) -> dict[Layer, Tensor]:
    """Largest value (C,) that each layer gave the ReLU behind it, in any cell of any canvas."""
    largest: dict[Layer, Tensor] = {}

    def note(layer: Layer, _: object, output: Tensor) -> None:
        peak = output.relu().amax(dim=(0, 2, 3))
        largest[layer] = torch.maximum(largest[layer], peak) if layer in largest else peak

    hooks = [layer.register_forward_hook(note) for layer in layers]
    for canvas in canvases:
        trunk(canvas)
    for hook in hooks:
        hook.remove()
    return largest

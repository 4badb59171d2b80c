"""Description of a configured model (`vexkd describe`): its layers, their output shapes, parameters and cost."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import SensorBatch, sensors_for
from vexkd_model.data.dummy_frame import dummy_frame
from vexkd_model.model import BevModel, build_model
from vexkd_model.types import Frame

# What the papers or repositories state, for their own grids and heads; the paper-size models differ as their
# configuration's first lines say.
PUBLISHED = {"bevformer_s": "68.7 M parameters, 1303.5 GFLOPs at 1600×900 (deformable convolutions, DETR head)"}
LAYERS = (
    "lidar",
    "camera.backbone",
    "camera.neck",
    "camera.view",
    "camera",
    "fusion",
    "bev",
    "detection",
    "segmentation",
)


class LayerSummary(NamedTuple):
    """Row of the table: module, class, number of parameters, GFLOPs of its forward pass, output shapes."""

    name: str
    kind: str
    parameters: int
    gflops: float
    shapes: str


@dataclass
class Description:
    """Layers and cost of a model for one frame.

    gflops: a multiplication and an addition are two FLOPs, so GFLOPs are twice the GMACs that some papers print.
    kept_mb: activations that the forward pass keeps for the backward pass, besides weights of weights_mb.
    """

    name: str
    layers: list[LayerSummary] = field(default_factory=list)
    parameters: int = 0
    gflops: float = 0.0
    weights_mb: float = 0.0
    kept_mb: float = 0.0
    input: str = ""
    published: str | None = None


def describe(config: ModelConfig, frame: Frame | None = None) -> Description:
    """Build the model and measure one training step's forward pass on `frame` (default: `dummy_frame`)."""
    model = build_model(config).train()
    sensors = sensors_for(config, [frame or dummy_frame(config)])
    shapes: dict[str, str] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: shapes.__setitem__(name, _shape(output)))
        for name, module in _layers(model)
    ]
    kept: dict[int, int] = {}
    counter = FlopCounterMode(display=False)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _note(tensor, kept), lambda tensor: tensor), counter:
        model(sensors)
    for hook in hooks:
        hook.remove()
    parameters = list(model.parameters())
    own = {tensor.untyped_storage().data_ptr() for tensor in parameters}
    counts = counter.get_flop_counts()
    return Description(
        config.name,
        [
            LayerSummary(
                name,
                type(module).__name__,
                sum(p.numel() for p in module.parameters()),
                sum(counts.get(f"BevModel.{name}", {}).values()) * 1e-9,
                shapes.get(name, ""),
            )
            for name, module in _layers(model)
        ],
        parameters=sum(p.numel() for p in parameters),
        gflops=counter.get_total_flops() * 1e-9,
        weights_mb=sum(p.numel() * p.element_size() for p in parameters) * 1e-6,
        kept_mb=sum(size for place, size in kept.items() if place not in own) * 1e-6,
        input=_input(sensors),
        published=PUBLISHED.get(config.name),
    )


def _layers(model: BevModel) -> Iterator[tuple[str, nn.Module]]:
    modules = dict(model.named_modules())
    return ((name, modules[name]) for name in LAYERS if name in modules)


def _note(tensor: Tensor, kept: dict[int, int]) -> Tensor:
    storage = tensor.untyped_storage()
    kept[storage.data_ptr()] = storage.nbytes()
    return tensor


def _shape(output: object) -> str:
    """Distinct shapes of all tensors in a module's output."""
    if isinstance(output, Tensor):
        return "×".join(map(str, output.shape))
    if isinstance(output, list | tuple):
        return ", ".join(dict.fromkeys(part for part in map(_shape, output) if part))
    return ""


def _input(sensors: SensorBatch) -> str:
    parts = [f"{len(sensors.points)} points"] if len(sensors.points) else []
    if sensors.cameras is not None:
        _, cameras, _, height, width = sensors.cameras.images.shape
        parts.append(f"{cameras} images of {width}×{height}")
    if sensors.past:
        parts.append(f"{len(sensors.past)} past frames")
    return ", ".join(parts)


def as_text(described: Description) -> str:
    """Format the description as a table for a terminal."""
    rows = [
        (layer.name, layer.kind, f"{layer.parameters / 1e6:.2f} M", f"{layer.gflops:.1f}", layer.shapes)
        for layer in described.layers
    ]
    rows = [
        ("module", "kind", "parameters", "GFLOPs", "gives"),
        *rows,
        ("all", "", f"{described.parameters / 1e6:.2f} M", f"{described.gflops:.1f}", ""),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [name.ljust(widths[0]), kind.ljust(widths[1]), parameters.rjust(widths[2]), gflops.rjust(widths[3]), shapes]
        ).rstrip()
        for name, kind, parameters, gflops, shapes in rows
    ]
    lines = [
        f"{described.name}: one frame of {described.input}",
        *lines,
        f"memory: {described.weights_mb:.0f} MB of weights in float32; training keeps {described.kept_mb:.0f} MB "
        "a frame for its backward pass",
    ]
    return "\n".join(lines + ([f"published: {described.published}"] if described.published else []))

"""A student's convolutions as ONNX graphs of standard operators: what becomes a graph, and its export.

What scatters points or pixels into the BEV map stays in PyTorch. Two graphs: the trunk, from the BEV map to the heads'
outputs, of every student; and the image network, backbone and neck, of camera students.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from vexkd_model.camera.encoder import ViewGeometry
from vexkd_model.data.batch import SensorBatch
from vexkd_model.deploy.runtimes import GraphRuntime, load_graph
from vexkd_model.errors import UserError
from vexkd_model.heads.center import CenterHead, TaskMaps
from vexkd_model.lidar.pillars import PillarEncoder
from vexkd_model.model import BevModel

TRUNK, IMAGES = "trunk.onnx", "images.onnx"
OPSET = 20  # the first with grid sampling as PyTorch names it


class Trunk(nn.Module):
    """Trunk of a student: canvas (1, Y, X, C) → outputs of the heads, task by task and field by field, then the map.

    The canvas is the map of pillars before the stem, or the low-level map of other encoders; channels last, as the
    scatter writes it.
    """

    def __init__(self, model: BevModel) -> None:
        super().__init__()
        self.stem = model.lidar.stem if isinstance(model.lidar, PillarEncoder) else nn.Identity()
        self.bev, self.detection, self.segmentation = model.bev, model.detection, model.segmentation

    def forward(self, canvas: Tensor) -> tuple[Tensor, ...]:
        high = self.bev(self.stem(canvas.permute(0, 3, 1, 2)))
        tasks: Sequence[TaskMaps] = [] if self.detection is None else self.detection(high)
        maps = [] if self.segmentation is None else [self.segmentation(high)]
        return *(field for task in tasks for field in task if field is not None), *maps


class ImageNetwork(nn.Module):
    """Backbone and neck of a camera student: images uint8 (N, 3, H, W) → feature maps of each level."""

    def __init__(self, model: BevModel) -> None:
        super().__init__()
        assert model.camera is not None
        self.backbone, self.neck = model.camera.backbone, model.camera.neck

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.neck(self.backbone(images)))


def check_exporter() -> None:
    """Raise UserError unless the packages that export and quantise graphs are installed."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(f"graphs need {', '.join(missing)}; pip install {' '.join(missing)}")


def has_graph(model: BevModel) -> bool:
    """True for students whose graph has standard operators only: any encoder of one sensor, and a CenterHead if any."""
    return model.fusion is None and (model.detection is None or isinstance(model.detection, CenterHead))


def canvas_of(model: BevModel, sensors: SensorBatch, geometry: ViewGeometry | None = None) -> Tensor:
    """Compute what the trunk reads, (1, Y, X, C) in contiguous float32."""
    if isinstance(model.lidar, PillarEncoder):
        canvas = model.lidar.canvas(sensors.points, sensors.sample, sensors.size)
    else:
        maps, _ = model.sensor_maps(sensors, geometry)
        (canvas,) = maps.values()
    return canvas.permute(0, 2, 3, 1).float().contiguous()


def export_graph(module: nn.Module, example: Tensor, path: Path) -> None:
    """Write a module of one input and a tuple of outputs as an ONNX file, for inputs of the example's shape."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses operators of torchvision, which nobody uses
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=["input"],
            optimize=True,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter notes source files of this machine there
        for value in node.outputs:
            value.metadata_props.clear()
    program.save(path)


class GraphStudent(nn.Module):
    """Student whose convolutions run as graphs. model: the rest of it, whose image network is exchanged."""

    def __init__(self, model: BevModel, graphs: Mapping[str, bytes], runtime: GraphRuntime) -> None:
        super().__init__()
        self.model, self.trunk = model, load_graph(graphs[TRUNK], runtime)
        if model.camera is not None and IMAGES in graphs:
            model.camera.backbone = load_graph(graphs[IMAGES], runtime)  # pyright: ignore[reportAttributeAccessIssue]
            model.camera.neck = nn.Identity()

    def forward(
        self, sensors: SensorBatch, geometry: ViewGeometry | None = None
    ) -> tuple[list[TaskMaps] | None, Tensor | None]:
        """Compute `detection` and `segmentation` of a ModelOutput."""
        tensors = self.trunk(canvas_of(self.model, sensors, geometry))
        segmentation = tensors.pop() if self.model.segmentation is not None else None
        if not isinstance(self.model.detection, CenterHead):
            return None, segmentation
        fields = len(tensors) // len(self.model.detection.tasks)
        return [TaskMaps(*tensors[i : i + fields]) for i in range(0, len(tensors), fields)], segmentation

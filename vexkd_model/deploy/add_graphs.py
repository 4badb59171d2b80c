"""Addition of ONNX graphs to a student package: exported, quantised if wanted, and named with checksums in its card."""

import copy
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.card import CARD
from vexkd_model.deploy.equalise import equalise
from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.deploy.graph import IMAGES, TRUNK, Graph, ImageNetwork, Trunk, canvas_of, export_graph, has_graph
from vexkd_model.deploy.package import load_package
from vexkd_model.errors import UserError
from vexkd_model.files import replace_folder
from vexkd_model.model import BevModel
from vexkd_model.progress import progress

GraphPrecision = Literal["float32", "int8"]
FRAMES = 40  # of calibration
STRENGTHS, PASSES = (0.7, 0.8, 0.9, 1.0), 2  # of equalisation: they differ from student to student
COMPARED = 8  # frames in which they are


def add_graphs(folder: Path, index: FrameIndex, precision: GraphPrecision = "int8", frames: int = FRAMES) -> None:
    """Add graphs to the package at `folder`, in the place of older ones; it is replaced atomically.

    index: frames that calibrate int8, evenly spaced; of the student's own training data. UserError for a model whose
    graph would need more than standard operators.
    """
    model, config, card = load_package(folder)
    if not has_graph(model):
        raise UserError(f"{folder}: {config.name} has no graph of standard operators; students of one sensor with a "
                        "CenterHead, or without detection, have one")
    fold_batch_norms(model)
    chosen = np.unique(np.linspace(0, len(index) - 1, frames).round().astype(int)).tolist()
    with tempfile.TemporaryDirectory() as place:
        contents = {name: _content(module, examples, precision, Path(place) / name)
                    for name, module, examples in _parts(model, config, index, chosen)}
    card = card.model_copy(update={
        "graphs": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "graph_precision": precision})
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial, ignore=shutil.ignore_patterns("*.onnx"))
    for name, content in contents.items():
        (partial / name).write_bytes(content)
    (partial / CARD).write_text(card.model_dump_json(indent=1) + "\n")
    replace_folder(partial, folder)


def _parts(model: BevModel, config: ModelConfig, index: FrameIndex,
           chosen: Sequence[int]) -> Iterable[tuple[str, nn.Module, list[Tensor]]]:
    """List the parts of a student that become a graph, each with its inputs in the chosen frames."""
    canvases, images = [], []
    with torch.inference_mode():
        for i in progress(chosen, "calibration", len(chosen), "frames"):
            sensors = sensors_for(config, [load_frame(index, i, config)])
            canvases.append(canvas_of(model, sensors))
            if sensors.cameras is not None:
                images.append(sensors.cameras.images.flatten(0, 1).contiguous())
    yield TRUNK, Trunk(model), canvases
    if images:
        yield IMAGES, ImageNetwork(model), images


def _content(module: nn.Module, examples: Sequence[Tensor], precision: GraphPrecision, path: Path) -> bytes:
    """Export a part; in int8, a trunk with its channels equalised as strongly as gives the smallest error."""
    if precision == "float32" or not isinstance(module, Trunk):
        return _exported(module, examples, precision, path)
    with torch.no_grad():
        expected = [module(example) for example in examples[:COMPARED]]
    best, least = b"", float("inf")
    for strength in progress(STRENGTHS, "equalisation", len(STRENGTHS), "strengths"):
        trial = copy.deepcopy(module)
        for _ in range(PASSES):
            equalise(trial, examples, strength)
        content = _exported(trial, examples, precision, path)
        error = _error(Graph(content), examples, expected)
        if error < least:
            best, least = content, error
    return best


def _exported(module: nn.Module, examples: Sequence[Tensor], precision: GraphPrecision, path: Path) -> bytes:
    export_graph(module, examples[0], path)
    if precision == "int8":
        from vexkd_model.deploy.quantise import quantise

        quantise(path, examples)
    return path.read_bytes()


def _error(graph: Graph, examples: Sequence[Tensor], expected: Sequence[tuple[Tensor, ...]]) -> float:
    """Mean absolute error of the outputs, each in units of its standard deviation."""
    return float(np.mean([float((found - exact).abs().mean() / exact.std().clamp(min=1e-6))
                          for example, outputs in zip(examples, expected, strict=False)
                          for found, exact in zip(graph(example), outputs, strict=True)]))

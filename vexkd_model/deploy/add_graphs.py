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
from vexkd_model.deploy.equalise import equalise
from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.deploy.graph import IMAGES, TRUNK, ImageNetwork, Trunk, canvas_of, export_graph, has_graph
from vexkd_model.deploy.package import load_package, write_card
from vexkd_model.deploy.runtimes import OnnxGraph
from vexkd_model.errors import UserError
from vexkd_model.files import replace_folder
from vexkd_model.model import BevModel
from vexkd_model.progress import progress

GraphPrecision = Literal["float32", "int8"]
FRAMES = 40  # of calibration
STRENGTHS, PASSES = (0.8, 1.0), 2  # of equalisation: which is best differs from student to student
COMPARED = 8  # frames in which errors are compared
MOST_EXACT, TOLERANCE = 2, 0.1  # layers that may stay in float32, until the error is within the tolerance


def add_graphs(folder: Path, index: FrameIndex, precision: GraphPrecision = "int8", frames: int = FRAMES) -> None:
    """Add graphs to the package at `folder`, in the place of older ones; it is replaced atomically.

    index: frames that calibrate int8, evenly spaced; of the student's own training data. UserError for a model whose
    graph would need more than standard operators.
    """
    model, config, card = load_package(folder)
    if not has_graph(model):
        raise UserError(
            f"{folder}: {config.name} has no graph of standard operators; students of one sensor with a "
            "CenterHead, or without detection, have one"
        )
    fold_batch_norms(model)
    chosen = np.unique(np.linspace(0, len(index) - 1, frames).round().astype(int)).tolist()
    with tempfile.TemporaryDirectory() as place:
        make = _quantised if precision == "int8" else _exported
        contents = {
            name: make(module, examples, Path(place) / name)
            for name, module, examples in _parts(model, config, index, chosen)
        }
    card = card.model_copy(
        update={
            "graphs": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
            "graph_precision": precision,
        }
    )
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial, ignore=shutil.ignore_patterns("*.onnx"))
    for name, content in contents.items():
        (partial / name).write_bytes(content)
    write_card(partial, card)
    replace_folder(partial, folder)


def _parts(
    model: BevModel, config: ModelConfig, index: FrameIndex, chosen: Sequence[int]
) -> Iterable[tuple[str, nn.Module, list[Tensor]]]:
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


def _exported(module: nn.Module, examples: Sequence[Tensor], path: Path) -> bytes:
    export_graph(module, examples[0], path)
    return path.read_bytes()


def _quantised(module: nn.Module, examples: Sequence[Tensor], path: Path) -> bytes:
    from vexkd_model.deploy.quantise import quantise

    if isinstance(module, Trunk):
        return _quantised_trunk(module, examples, path)
    export_graph(module, examples[0], path)
    quantise(path, examples)
    return path.read_bytes()


def _quantised_trunk(trunk: Trunk, examples: Sequence[Tensor], path: Path) -> bytes:
    """Export in eight bits, with as few layers in float32 and equalised as strongly as keeps the error smallest."""
    from vexkd_model.deploy.quantise import quantise

    with torch.no_grad():
        expected = [trunk(example) for example in examples[:COMPARED]]
    trials = []
    for strength in STRENGTHS:
        trials.append(copy.deepcopy(trunk))
        for _ in range(PASSES):
            equalise(trials[-1], examples, strength)
    best, least, first_exact = b"", float("inf"), 0
    for first_exact in range(MOST_EXACT + 1):
        for trial in progress(trials, f"eight bits, the first {first_exact} layers exact", len(trials), "trials"):
            export_graph(trial, examples[0], path)
            quantise(path, examples, first_exact)
            error = _error(OnnxGraph(path.read_bytes()), examples, expected)
            if error < least:
                best, least = path.read_bytes(), error
        if least <= TOLERANCE:
            break
    print(f"{path.name}: mean error {least:.3f} of the outputs' deviation, {first_exact} layers beside the last exact")
    return best


def _error(graph: OnnxGraph, examples: Sequence[Tensor], expected: Sequence[tuple[Tensor, ...]]) -> float:
    """Mean absolute error of the outputs, each in units of its standard deviation."""
    return float(
        np.mean(
            [
                float((found - exact).abs().mean() / exact.std().clamp(min=1e-6))
                for example, outputs in zip(examples, expected, strict=False)
                for found, exact in zip(graph(example), outputs, strict=True)
            ]
        )
    )

"""Latency of a student package by runtime and precision, in turns on the same frames, beside its floors."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from vexkd_model.bench.cost import cost_of
from vexkd_model.bench.rates import Cost, Rates, floors_ms
from vexkd_model.data.batch import sensors_for
from vexkd_model.deploy.card import read_card
from vexkd_model.deploy.graph import Trunk, canvas_of, has_graph
from vexkd_model.deploy.predictor import Predictor, Runtime
from vexkd_model.deploy.runtimes import is_installed
from vexkd_model.machine import has_bfloat16
from vexkd_model.progress import progress
from vexkd_model.types import Frame, Precision

CONVOLUTIONS, PREDICTION = "convolutions", "prediction"


@dataclass(frozen=True)
class Latency:
    """Processor time of one part in one runtime.

    part: convolutions (the trunk, and a camera student's image network) or the whole prediction. ms: median.
    times_as_fast: as PyTorch in float32. flops_floor_ms, memory_floor_ms: see `floors_ms`. rate_share: of the
    processor's measured rate in that precision.
    """

    runtime: str
    part: str
    ms: float
    times_as_fast: float
    flops_floor_ms: float | None
    memory_floor_ms: float
    rate_share: float | None


class _Variant(NamedTuple):
    predictor: Predictor
    convolutions_in: str  # precision


def measure_latency(package: Path, frames: Sequence[Frame], repeats: int, rates: Rates) -> list[Latency]:
    """Measure every runtime and precision that is there; PyTorch in float32 comes first.

    frames: of the package's sensors. repeats: of each frame in each runtime, after a first that warms up.
    """
    variants = _variants(package)
    exact = variants[0].predictor
    costs = {PREDICTION: cost_of(lambda: exact.predict(frames[0]))}
    if has_graph(exact.model):
        costs[CONVOLUTIONS] = _convolutions_cost(exact, frames[0])
    took: dict[tuple[int, str], list[float]] = {}
    turns = [(repeat, frame) for repeat in range(repeats + 1) for frame in frames]
    for repeat, frame in progress(turns, f"{package.name}: inference", unit="frames"):
        for number, (predictor, _) in enumerate(variants):
            times = {PREDICTION: _prediction_ms(predictor, frame)}
            if CONVOLUTIONS in costs:
                times[CONVOLUTIONS] = convolutions_ms(predictor, frame)
            for part, ms in times.items():
                if repeat:
                    took.setdefault((number, part), []).append(ms)
    return [
        _latency(variant, part, median(took[number, part]), median(took[0, part]), costs[part], rates)
        for part in (CONVOLUTIONS, PREDICTION)
        if part in costs
        for number, variant in enumerate(variants)
    ]


def _variants(package: Path) -> list[_Variant]:
    """Load the package once a runtime and precision. What is not a graph computes in bfloat16 where that is fast."""
    _, card = read_card(package)
    has_fast = has_bfloat16(torch.device("cpu"))
    fast: Precision = "bfloat16" if has_fast else "float32"
    wanted: list[tuple[Precision, Runtime, str]] = [("float32", "torch", "float32")]
    if has_fast:
        wanted.append(("bfloat16", "torch", "bfloat16"))
    for runtime in ("onnx", "openvino"):
        if card.graphs and is_installed(runtime):
            wanted.append((fast, runtime, card.graph_precision or "float32"))
    return [
        _Variant(Predictor.load(package, "cpu", precision, runtime), convolutions_in)
        for precision, runtime, convolutions_in in wanted
    ]


def _latency(variant: _Variant, part: str, ms: float, exact_ms: float, cost: Cost, rates: Rates) -> Latency:
    by_flops, by_memory = floors_ms(cost, variant.convolutions_in, rates)
    share = None if by_flops is None else by_flops / ms
    return Latency(variant.predictor.runtime, part, ms, exact_ms / ms, by_flops, by_memory, share)


@torch.inference_mode()
def _convolutions_cost(exact: Predictor, frame: Frame) -> Cost:
    sensors = sensors_for(exact.config, [frame])
    canvas = canvas_of(exact.model, sensors, exact.geometry(sensors))
    trunk = cost_of(lambda: Trunk(exact.model)(canvas))
    if sensors.cameras is None or exact.model.camera is None:
        return trunk
    camera, images = exact.model.camera, sensors.cameras.images.flatten(0, 1)
    network = cost_of(lambda: camera.neck(camera.backbone(images)))
    return Cost(trunk.flops + network.flops, trunk.values + network.values)


@torch.inference_mode()
def convolutions_ms(predictor: Predictor, frame: Frame) -> float:
    """Time the trunk, and a camera student's image network: processor time [ms]."""
    sensors = sensors_for(predictor.config, [frame])
    geometry = predictor.geometry(sensors)
    model, graphs = predictor.model, predictor.graphs
    with torch.autocast("cpu", torch.bfloat16, enabled=predictor.bfloat16):
        canvas = canvas_of(model, sensors, geometry)
        trunk = graphs.trunk if graphs else Trunk(model)
        start = time.process_time()
        trunk(canvas)
        if sensors.cameras is not None and model.camera is not None:
            model.camera.neck(model.camera.backbone(sensors.cameras.images.flatten(0, 1)))
        return (time.process_time() - start) * 1e3


def _prediction_ms(predictor: Predictor, frame: Frame) -> float:
    start = time.process_time()
    predictor.predict(frame)
    return (time.process_time() - start) * 1e3

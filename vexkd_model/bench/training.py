"""Rates of loading and training: processor time of a batch and of a step of a package's own model."""

import copy
import itertools
import pickle
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from vexkd_model.bench.cost import cost_of
from vexkd_model.bench.rates import Cost, Rates, floors_ms
from vexkd_model.config import ModelConfig
from vexkd_model.criterion import build_criterion
from vexkd_model.data.batch import Batch
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.loader import training_loader
from vexkd_model.data.requirements import check_trainable
from vexkd_model.deploy.package import load_package
from vexkd_model.errors import UserError
from vexkd_model.layers import reference_operators
from vexkd_model.machine import has_bfloat16
from vexkd_model.model import BevModel
from vexkd_model.progress import progress
from vexkd_model.training.schedule import optimiser_and_schedule

SCHEDULE_STEPS = 1000  # of which a few are trained
EXACT = "PyTorch's operators, float32"


@dataclass(frozen=True)
class LoadingRate:
    """Training loader in one process. floor_ms: a copy of the frame's tensors at the memory's measured rate."""

    frames_per_s: float
    ms_a_frame: float
    floor_ms: float


@dataclass(frozen=True)
class StepRate:
    """Training step without loading: forward, losses, backward, clipping, optimiser.

    times_as_fast: as PyTorch's own operators in float32. flops_floor_s, rate_share: as in Latency. loss_difference:
    largest relative one to these operators' losses in any step.
    """

    way: str
    frames_per_s: float
    seconds: float
    times_as_fast: float
    flops_floor_s: float | None
    rate_share: float | None
    loss_difference: float


class _Training:
    """Model in training with its optimiser; `step` returns the loss and the processor time [s]."""

    def __init__(self, model: BevModel, config: ModelConfig, bfloat16: bool, reference: bool) -> None:
        self.model, self.criterion = copy.deepcopy(model).train(), build_criterion(config)
        self.bfloat16, self.reference, self.clip = bfloat16, reference, config.training.gradient_clip
        backbone = self.model.camera and self.model.camera.backbone
        self.optimiser, self.schedule = optimiser_and_schedule(config.training, self.model, backbone, SCHEDULE_STEPS)

    def step(self, batch: Batch, number: int) -> tuple[float, float]:
        torch.manual_seed(number)  # of dropout
        start = time.process_time()
        loss = self.backward(batch)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimiser.step()
        self.schedule.step()
        return loss, time.process_time() - start

    def backward(self, batch: Batch) -> float:
        with reference_operators() if self.reference else nullcontext():
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                loss = torch.stack(list(self.criterion(self.model(batch.sensors), batch).values())).sum()
            self.optimiser.zero_grad()
            loss.backward()
        return loss.item()


def measure_training(package: Path, index: FrameIndex, steps: int, rates: Rates) -> tuple[LoadingRate, list[StepRate]]:
    """Load batches as `vexkd train` does, and train copies of the package's model on them, step by step in turns."""
    model, config, _ = load_package(package)
    check_trainable(config, index)
    ways = _ways(model, config)
    batches = _batches(config, index)
    loading, taken = list[float](), {way: list[tuple[float, float]]() for way in ways}
    batch = next(batches)
    flops = cost_of(lambda: ways[EXACT].backward(copy.deepcopy(batch)))
    for number in progress(range(steps + 1), f"{package.name}: training", unit="steps"):
        start = time.process_time()
        batch = next(batches)
        loading.append(time.process_time() - start)
        for way, training in ways.items():
            taken[way].append(training.step(copy.deepcopy(batch), number))
    size = config.training.batch_size
    load = median(loading) / size
    floor_ms = 2e-6 * len(pickle.dumps(batch)) / size / rates.gbytes
    rows = [
        _step_rate(way, training.bfloat16, taken[way], taken[EXACT], size, flops, rates)
        for way, training in ways.items()
    ]
    return LoadingRate(1 / load, load * 1e3, floor_ms), rows


def _ways(model: BevModel, config: ModelConfig) -> dict[str, _Training]:
    ways = {EXACT: _Training(model, config, bfloat16=False, reference=True)}
    ways["faster paths, float32"] = _Training(model, config, bfloat16=False, reference=False)
    if has_bfloat16(torch.device("cpu")):
        ways["faster paths, bfloat16"] = _Training(model, config, bfloat16=True, reference=False)
    return ways


def _step_rate(
    way: str,
    bfloat16: bool,
    taken: list[tuple[float, float]],
    exact: list[tuple[float, float]],
    size: int,
    cost: Cost,
    rates: Rates,
) -> StepRate:
    """Summarise steps, each a loss and a time, of which the first warms up. size: frames a step."""
    seconds, exact_seconds = (median(time for _, time in steps[1:]) for steps in (taken, exact))
    floor_ms, _ = floors_ms(cost, "bfloat16" if bfloat16 else "float32", rates)
    floor = None if floor_ms is None else floor_ms * 1e-3
    worst = max(abs(loss / expected - 1) for (loss, _), (expected, _) in zip(taken, exact, strict=True))
    share = None if floor is None else floor / seconds
    return StepRate(way, size / seconds, seconds, exact_seconds / seconds, floor, share, worst)


def _batches(config: ModelConfig, index: FrameIndex) -> Iterator[Batch]:
    """Batches without end, of one loading process. UserError where the split holds less than one."""
    loader = training_loader(config, index, workers=0)
    if not len(loader):
        size = config.training.batch_size
        raise UserError(f"{index.folder}: holds fewer frames than one batch of {size}; choose a larger split")
    for batch in itertools.chain.from_iterable(itertools.repeat(loader)):
        if isinstance(batch, UserError):
            raise batch
        yield batch

"""Training time of each small model, extrapolated from a few of its own steps on its own data.

Loading, forward, backward and optimiser, as `vexkd train` runs them with one loading process. Claims, exit code 1 where
one fails: at most 45 minutes for LiDAR students, 75 for camera students, 120 for teachers. On an idle machine:

    python benchmarks/training_time.py data --version v1.0-trainval
"""

import argparse
import itertools
import sys
import time
from pathlib import Path
from statistics import median
from typing import cast

import torch
from machine import machine
from torch.optim.lr_scheduler import LRScheduler

from vexkd_model.config import ModelConfig, load_config
from vexkd_model.criterion import Criterion, build_criterion
from vexkd_model.data.batch import Batch
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.data.loader import training_loader
from vexkd_model.machine import in_bfloat16
from vexkd_model.model import BevModel, build_model
from vexkd_model.process import set_up_process
from vexkd_model.progress import progress
from vexkd_model.training.schedule import optimiser_and_schedule

CONFIGS = Path(__file__).parents[1] / "config" / "model"
MOST_MINUTES = {("lidar",): 45, ("camera",): 75, ("lidar", "camera"): 120}
FIRST_STEPS = 2  # allocate and compile


def seconds_a_step(config: ModelConfig, index: FrameIndex, steps: int) -> tuple[float, int]:
    """Measure the median time of a step [s]; also return the number of steps of the whole training."""
    torch.manual_seed(config.training.seed)
    model, loader = build_model(config).train(), training_loader(config, index, workers=1)
    criterion, whole = build_criterion(config), config.training.epochs * len(loader)
    optimiser, schedule = optimiser_and_schedule(config.training, model, model.camera and model.camera.backbone, whole)
    took, start = [], time.perf_counter()
    for batch in progress(itertools.islice(loader, steps + FIRST_STEPS), config.name, steps + FIRST_STEPS, "steps"):
        _step(config, model, criterion, batch, optimiser, schedule)
        took.append(time.perf_counter() - start)
        start = time.perf_counter()
    return median(took[FIRST_STEPS:]), whole


def _step(
    config: ModelConfig,
    model: BevModel,
    criterion: Criterion,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    schedule: LRScheduler,
) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16(config.training.precision, torch.device("cpu"))):
        loss = cast(torch.Tensor, sum(criterion(model(batch.sensors), batch).values()))
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.gradient_clip)
    optimiser.step()
    schedule.step()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="bench-small, prepared")
    parser.add_argument("--version", required=True)
    parser.add_argument(
        "--models",
        nargs="+",
        default=sorted(path.stem for path in CONFIGS.glob("*small.yaml")),
        help="names in config/model (default: all small ones)",
    )
    parser.add_argument("--steps", type=int, default=12, help="that are measured (default: 12)")
    arguments = parser.parse_args()
    set_up_process()
    index = FrameIndex.open(
        index_folder(arguments.dataroot, arguments.version), "train", arguments.dataroot, arguments.version
    )
    print(f"{machine()}, {torch.get_num_threads()} threads\n")
    print("| model | s a step | epochs | steps | minutes | at most |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    holds = True
    for name in arguments.models:
        config = load_config(CONFIGS / f"{name}.yaml")
        seconds, steps = seconds_a_step(config, index, arguments.steps)
        minutes, most = seconds * steps / 60, MOST_MINUTES[config.sensors]
        holds &= minutes <= most
        print(f"| {name} | {seconds:.2f} | {config.training.epochs} | {steps} | {minutes:.0f} | {most} |", flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

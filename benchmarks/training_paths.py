"""Times as fast as a training step is by the faster paths of a CPU: weight gradients from NCHW, attention by row sums.

Two copies of each small model train from the same weights on the same batches, one by PyTorch's own operators; their
steps alternate. Processor time on one thread without loading. Claims, exit code 1 where one fails: at least 1.5 times
as fast, and losses within 1 % in every step.

    python benchmarks/training_paths.py data --version v1.0-trainval
"""

import argparse
import copy
import itertools
import sys
import time
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from machine import machine
from training_time import CONFIGS

from vexkd_model import layers
from vexkd_model.bev import head_sampling
from vexkd_model.config import ModelConfig, load_config
from vexkd_model.criterion import build_criterion
from vexkd_model.data.batch import Batch
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.data.loader import training_loader
from vexkd_model.machine import in_bfloat16
from vexkd_model.model import build_model
from vexkd_model.process import set_up_process
from vexkd_model.training.schedule import optimiser_and_schedule

LEAST_RATIO, LOSS_TOLERANCE = 1.5, 0.01
SCHEDULE_STEPS = 1000  # of which a few are trained


class Training:
    """Model in training with its optimiser; `step` returns the loss and the time in seconds."""

    def __init__(self, config: ModelConfig) -> None:
        torch.manual_seed(config.training.seed)
        self.settings, self.criterion = config.training, build_criterion(config)
        self.model = build_model(config).train()
        backbone = self.model.camera and self.model.camera.backbone
        self.optimiser, self.schedule = optimiser_and_schedule(self.settings, self.model, backbone, SCHEDULE_STEPS)

    def step(self, batch: Batch, number: int) -> tuple[float, float]:
        torch.manual_seed(number)  # of dropout
        start = time.process_time()
        bfloat16 = in_bfloat16(self.settings.precision, torch.device("cpu"))
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.stack(list(self.criterion(self.model(batch.sensors), batch).values())).sum()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimiser.step()
        self.schedule.step()
        return loss.item(), time.process_time() - start


def compare(config: ModelConfig, index: FrameIndex, steps: int) -> tuple[float, float, float]:
    """Measure the median times of a step by PyTorch and by the faster paths [s], and the losses' largest difference."""
    by_pytorch, faster = Training(config), Training(config)
    loader = training_loader(config, index, workers=0)
    times, worst = [], 0.0
    for number, batch in enumerate(
        itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps + 1)
    ):
        with (
            patch.object(layers, "_slow_weight_gradient", lambda *_: False),
            patch.object(head_sampling, "sample_by_rows", head_sampling.sample_by_grid),
        ):
            expected, slow = by_pytorch.step(copy.deepcopy(batch), number)
        loss, fast = faster.step(batch, number)
        times.append((slow, fast))
        worst = max(worst, abs(loss / expected - 1))
    slow, fast = (median(side) for side in zip(*times[1:], strict=True))
    return slow, fast, worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="prepared")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", default="train", help="(default: train)")
    names = sorted(path.stem for path in CONFIGS.glob("*small.yaml"))
    parser.add_argument("--models", nargs="+", default=names, help="names in config/model (default: all small ones)")
    parser.add_argument("--steps", type=int, default=9, help="that are measured, after a first (default: 9)")
    arguments = parser.parse_args()
    set_up_process()
    torch.set_num_threads(1)
    folder = index_folder(arguments.dataroot, arguments.version)
    index = FrameIndex.open(folder, arguments.split, arguments.dataroot, arguments.version)
    print(f"{machine()}, one thread\n")
    print("| model | PyTorch [s] | faster paths [s] | times as fast | losses differ by |")
    print("| --- | ---: | ---: | ---: | ---: |")
    holds = True
    for name in arguments.models:
        slow, fast, worst = compare(load_config(CONFIGS / f"{name}.yaml"), index, arguments.steps)
        holds &= slow / fast >= LEAST_RATIO and worst <= LOSS_TOLERANCE
        print(f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.2f} | {worst:.1e} |", flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

"""Trainings killed at random moments: whether each resumes from a whole epoch and ends as if never disturbed.

Each trial starts a training on a tiny dataset, kills it with SIGKILL, resumes it, and compares all weights with those
of an undisturbed one bit by bit. Every second one is killed while it writes a checkpoint of a random epoch, the
others anywhere between start and end. The run folders lie on another file system than the temporary folder, in which
Lightning would stage checkpoints. Exit code 1 where a trial fails.

    python benchmarks/kill_training.py --trials 200
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch
from machine import machine

from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_model.training.run import LAST_CHECKPOINT, load_run
from vexkd_model.training.train import quiet_lightning, train

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CONFIG = Path(__file__).parents[1] / "config" / "model" / "lidar_pillar_small.yaml"
EPOCHS, FRAMES = 6, 3
# A training of seconds, with a checkpoint of megabytes.
TINY = (
    "lidar.sweeps=2",
    "lidar.sweep_interval=null",
    "lidar.encoder.pillar=1.8",
    "lidar.encoder.age_groups=1",
    "grid={extent: 54.0, cell: 1.8}",
    "bev={kind: second, stage_channels: [32, 64], stage_layers: [1, 1], lateral_channels: 32}",
    f"training.epochs={EPOCHS}",
    "training.batch_size=1",
    "training.precision=float32",
    "training.sensor_variety=null",
    "training.paste=null",
    "training.class_balanced=false",
)


def training(data: Path, run: Path, resume: bool, workers: int) -> None:
    """Train to the end, in a process of its own."""
    multiprocessing.set_start_method("fork", force=True)  # of its loading processes, as in `vexkd train`
    torch.set_num_threads(1)
    quiet_lightning()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    train(load_config(CONFIG, TINY), FrameIndex.open(data / "index", "mini_train"), run, workers, resume, False)


def start(data: Path, run: Path, resume: bool, workers: int) -> ForkServerProcess:
    """Start a training in a process that has imported everything."""
    process = multiprocessing.get_context("forkserver").Process(target=training, args=(data, run, resume, workers))
    process.start()
    return process


def kill(process: ForkServerProcess, run: Path, draw: random.Random, duration: float, at_checkpoint: bool) -> str:
    """Kill a training at a random moment [s] below `duration`, or while it writes; return what it had done."""
    if at_checkpoint:
        for _ in range(draw.randint(1, EPOCHS)):
            _wait(process, lambda: not _is_writing(run))
            _wait(process, lambda: _is_writing(run))
        time.sleep(draw.uniform(0, 0.01))
    else:
        process.join(draw.uniform(0, duration))
    writing = _is_writing(run)
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        return "had ended"
    return "while it wrote a checkpoint" if writing else f"after {_epochs(run)} epochs"


def _wait(process: ForkServerProcess, condition: Callable[[], bool]) -> None:
    while process.is_alive() and not condition():
        time.sleep(0.0005)


def _is_writing(run: Path) -> bool:
    return any((run / LAST_CHECKPOINT).parent.glob("*.partial"))


def _epochs(run: Path) -> int:
    """Number of finished epochs; UserError if the checkpoint is damaged."""
    return load_run(run)[2] if (run / LAST_CHECKPOINT).exists() else 0


def trial(
    data: Path, run: Path, straight: dict[str, torch.Tensor], kill_at: tuple[random.Random, float, bool], workers: int
) -> tuple[str, str]:
    """Kill and resume one training; return what it had done by then, and what is wrong, if anything."""
    what = kill(start(data, run, False, workers), run, *kill_at)
    try:
        _epochs(run)
    except UserError as error:
        return what, str(error)
    resumed = start(data, run, True, workers)
    resumed.join()
    if resumed.exitcode:
        return what, f"resuming failed with exit code {resumed.exitcode}"
    weights = load_run(run)[0].state_dict()
    different = [name for name, tensor in straight.items() if not torch.equal(weights[name], tensor)]
    return what, f"{len(different)} tensors differ, first {different[0]}" if different else ""


def main() -> int:
    from support.tiny_nuscenes import write_tiny_nuscenes  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="trainings to kill (default: 200)")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("/dev/shm"),
        metavar="DIR",
        help="for run folders, on another disk than the temporary folder (default: /dev/shm)",
    )
    parser.add_argument("--workers", type=int, default=1, help="loading processes (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    arguments = parser.parse_args()
    if arguments.runs.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        raise SystemExit(f"--runs {arguments.runs}: on the same disk as {tempfile.gettempdir()}; give another")
    multiprocessing.set_forkserver_preload(["vexkd_model.training.train"])
    print(machine())
    draw, done, failed = random.Random(arguments.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory(dir=arguments.runs) as runs:
        data, run = Path(made), Path(runs) / "run"
        prepare(write_tiny_nuscenes(data / "data", {"scene-0061": FRAMES}), "v1.0-mini", data / "index", ["mini_train"])
        begun = time.monotonic()
        start(data, Path(runs) / "straight", False, arguments.workers).join()
        duration, straight = time.monotonic() - begun, load_run(Path(runs) / "straight")[0].state_dict()
        for number in progress(range(arguments.trials), "trainings killed", arguments.trials, "trainings"):
            what, wrong = trial(data, run, straight, (draw, duration, bool(number % 2)), arguments.workers)
            done[what] += 1
            if wrong:
                failed += 1
                print(f"trial {number}: killed {what}: {wrong}", file=sys.stderr)
            shutil.rmtree(run, ignore_errors=True)
    for what, count in sorted(done.items()):
        print(f"{count:4d} {what}")
    print(f"{arguments.trials - failed} of {arguments.trials} resumed and ended with the undisturbed one's weights")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Cost of every model of config/model on one real keyframe, forwards and backwards.

Each model runs in a process of its own: training mode with all its losses, then bfloat16 autocast, then torch.export.
Claims, exit code 1 where one fails: every parameter that learns gets a gradient, every model runs in bfloat16 and
through torch.export, and no process takes more than 16 GB on a CPU.

    python benchmarks/models.py ../shared/nuscenes_keyframe --json models.json
    python benchmarks/models.py ../shared/nuscenes_keyframe --device cuda --batch 4 --models bevdet_r50
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from machine import machine

from vexkd_model.config import ModelConfig, load_config
from vexkd_model.criterion import build_criterion
from vexkd_model.data.batch import Batch, collate_for
from vexkd_model.data.dataset import load_sample
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.export import export_program
from vexkd_model.describe import describe
from vexkd_model.files import write_json
from vexkd_model.model import build_model
from vexkd_model.process import set_up_process
from vexkd_model.progress import progress

CONFIGS = Path(__file__).parents[1] / "config" / "model"
VERSION, SPLIT, GB, MOST_MEMORY_GB = "v1.0-mini", "mini_train", 1e9, 16.0
LEAST_AGREEMENT = 1e-3  # of exported and plain features, relative to the largest


def keyframes(config: ModelConfig, index: FrameIndex, count: int) -> Batch:
    """Make a batch of the first keyframe, `count` times, with its ground truth."""
    return cast(Batch, collate_for(config)([load_sample(index, 0, config)] * count))


def measure(name: str, index: FrameIndex, device: str, count: int) -> dict:
    """Measure one model in this process."""
    config = load_config(CONFIGS / f"{name}.yaml")
    batch = keyframes(config, index, count).to(device)
    torch.manual_seed(0)
    model, criterion = build_model(config).to(device).train(), build_criterion(config)
    with torch.no_grad():  # attention starts at exactly zero, as published, which passes no gradient on
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
    figures: dict = {"model": name, "parameters": sum(p.numel() for p in model.parameters())}

    def timed(step: Callable[[], object]) -> float:
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def loss() -> torch.Tensor:
        output = model(batch.sensors)
        return cast(torch.Tensor, sum(criterion(output, batch).values()) + mean_outputs(output))

    losses: list[torch.Tensor] = []
    figures["forward_s"] = timed(lambda: losses.append(loss()))
    figures["backward_s"] = timed(losses[0].backward)
    figures["without_gradient"] = [
        name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    figures["memory_gb"] = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ) / GB
    model.zero_grad(set_to_none=True)
    losses.clear()
    model.eval()
    with torch.no_grad():
        figures["inference_s"] = timed(lambda: model(batch.sensors))
        with torch.autocast(device, torch.bfloat16):
            figures["bf16_s"] = timed(lambda: model(batch.sensors))
        expected = model(batch.sensors).features.high
        actual = export_program(model, batch.sensors).module()(batch.sensors).features.high
    figures["export_error"] = ((actual - expected).abs().max() / expected.abs().max()).item()
    figures["gflops"] = describe(config).gflops
    return figures


def mean_outputs(output: object) -> torch.Tensor | float:
    """Sum the means of all outputs, so that every branch gets a gradient: one frame has not every class of object."""
    if isinstance(output, torch.Tensor):
        return 1e-3 * output.float().abs().mean() if output.is_floating_point() else 0.0
    return sum(map(mean_outputs, output)) if isinstance(output, list | tuple) else 0.0


def measure_in_subprocess(name: str, arguments: argparse.Namespace, index: Path) -> dict:
    """Measure one model in a new process, whose peak of memory is then the model's own."""
    command = [
        sys.executable,
        __file__,
        str(arguments.dataroot),
        "--device",
        arguments.device,
        "--batch",
        str(arguments.batch),
        "--only",
        name,
        str(index),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"model": name, "failed": done.returncode}


def holds(figures: dict, device: str) -> bool:
    return (
        "failed" not in figures
        and not figures["without_gradient"]
        and figures["export_error"] < LEAST_AGREEMENT
        and (device == "cuda" or figures["memory_gb"] < MOST_MEMORY_GB)
    )


def table(rows: list[dict]) -> str:
    lines = [
        "| model | parameters | GFLOPs | forward | backward | peak memory | inference | bfloat16 | export error |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['model']} | failed with exit code {row['failed']} |")
            continue
        missing = f" ({len(row['without_gradient'])} without gradient)" if row["without_gradient"] else ""
        lines.append(
            f"| {row['model']} | {row['parameters'] / 1e6:.2f} M{missing} | {row['gflops']:.1f} | "
            f"{row['forward_s']:.2f} s | {row['backward_s']:.2f} s | {row['memory_gb']:.1f} GB | "
            f"{row['inference_s']:.2f} s | {row['bf16_s']:.2f} s | {row['export_error']:.0e} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="nuScenes folder, version v1.0-mini")
    parser.add_argument(
        "--models",
        nargs="+",
        default=sorted(path.stem for path in CONFIGS.glob("*.yaml")),
        help="names in config/model (default: all)",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--batch", type=int, default=1, help="frames (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)  # a model and an index, in a process of its own
    arguments = parser.parse_args()
    set_up_process()
    if arguments.only:
        name, index = arguments.only
        print(json.dumps(measure(name, FrameIndex.open(Path(index), SPLIT), arguments.device, arguments.batch)))
        return 0
    described, rows = machine(), []
    with tempfile.TemporaryDirectory() as folder:
        prepare(arguments.dataroot, VERSION, Path(folder), [SPLIT])
        for name in progress(arguments.models, "measure", unit="models"):
            rows.append(measure_in_subprocess(name, arguments, Path(folder)))
    print(f"{described}; batch {arguments.batch}\n\n{table(rows)}")
    if arguments.json:
        write_json(arguments.json, {"machine": described, "batch": arguments.batch, "models": rows})
    return 0 if all(holds(row, arguments.device) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

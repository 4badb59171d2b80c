"""`vexkd bench`: what a student costs on this machine, beside what the machine could do."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vexkd_model.cli.arguments import add_command, add_dataset_arguments, open_index
from vexkd_model.command import positive_int
from vexkd_model.errors import UserError
from vexkd_model.files import write_json

if TYPE_CHECKING:
    from vexkd_model.bench.rates import Rates
    from vexkd_model.bench.report import PackageReport
    from vexkd_model.data.index import FrameIndex

DETAILS = """\
All figures are processor time on one thread, in the median, measured in turns, so that other work on the machine
meets all of them alike; ratios are the figures to trust. Each stands beside PyTorch in float32 ("times as fast") and
beside two floors: the time of its FLOPs alone at the rate of a large matrix product, and of its bytes alone at the
rate of a large copy, both measured first. "Share of the rate" is the first floor over the time. For int8 the floors
count every layer in eight bits; caches can beat the second.

Without --dataroot, inference is measured on a generated frame, and loading and training are left out.
Of a node over DDS, stage by stage: python benchmarks/node_on_bag.py BAG --student PACKAGE"""


def bench(arguments: argparse.Namespace) -> None:
    import torch

    from vexkd_model.bench.rates import measure_rates
    from vexkd_model.bench.report import as_json, package_text, rates_text
    from vexkd_model.machine import machine_kind
    from vexkd_model.process import set_up_process

    if (arguments.dataroot is None) != (arguments.version is None):
        raise UserError("--dataroot and --version belong together: the dataset, and the folder of its tables")
    index = None if arguments.dataroot is None else open_index(arguments, default=-1)
    load = os.getloadavg()[0]
    set_up_process()
    torch.set_num_threads(1)
    machine = machine_kind()
    rates = measure_rates()
    print(
        f"{machine['cores']} cores, {machine['processor']}, load {load:.1f} before the start; one thread, "
        f"processor time in the median.\n{rates_text(rates)}"
    )
    reports = []
    for package in arguments.packages:
        reports.append(_measure(package, index, rates, arguments))
        print(f"\n{package_text(reports[-1])}", flush=True)
    if arguments.json:
        write_json(arguments.json, as_json({**machine, "load": round(load, 2)}, rates, reports))
        print(f"\n{arguments.json}: written")


def _measure(
    package: Path, index: "FrameIndex | None", rates: "Rates", arguments: argparse.Namespace
) -> "PackageReport":
    import numpy as np

    from vexkd_model.bench.inference import measure_latency
    from vexkd_model.bench.report import PackageReport
    from vexkd_model.bench.training import measure_training
    from vexkd_model.data.dataset import load_frame
    from vexkd_model.data.dummy_frame import dummy_frame
    from vexkd_model.deploy.card import read_card

    config, _ = read_card(package)
    if index is None:
        latency = measure_latency(package, [dummy_frame(config)], arguments.frames * arguments.repeats, rates)
        return PackageReport(package.name, "a generated frame", latency, None, [])
    chosen = np.unique(np.linspace(0, len(index) - 1, arguments.frames).round().astype(int)).tolist()
    latency = measure_latency(package, [load_frame(index, i, config) for i in chosen], arguments.repeats, rates)
    loading, steps = measure_training(package, index, arguments.steps, rates)
    return PackageReport(package.name, f"{len(chosen)} frames of {index.split}", latency, loading, steps)


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        bench,
        "measure student packages: inference by runtime and precision, loading and training",
        "vexkd bench models/lidar_distilled models/camera_distilled --dataroot data --version v1.0-mini "
        "--split mini_val --json bench.json",
        DETAILS,
    )
    command.add_argument("packages", type=Path, nargs="+", metavar="PACKAGE", help="student package")
    command.add_argument("--dataroot", type=Path, help="prepared nuScenes folder; needs --version, too")
    add_dataset_arguments(command, required=False)
    command.add_argument("--frames", type=positive_int, default=6, help="different ones (default: 6)")
    command.add_argument("--repeats", type=positive_int, default=5, help="of each frame in each runtime (default: 5)")
    command.add_argument(
        "--steps", type=positive_int, default=3, help="of training that are measured, after a first (default: 3)"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")

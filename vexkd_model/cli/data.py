"""`vexkd synth` and `vexkd prepare`: datasets, written and indexed."""

import argparse
import shlex
from pathlib import Path

from vexkd_model.cli.arguments import add_command, add_dataset_arguments, index_dir
from vexkd_model.command import positive_int


def synth(arguments: argparse.Namespace) -> None:
    from vexkd_model.machine import choose_device
    from vexkd_model.synth import PRESETS, synthesise

    scenes = arguments.scenes.split(",") if arguments.scenes else None
    synthesise(
        arguments.out,
        arguments.preset,
        arguments.seed,
        split=arguments.split,
        scenes=scenes,
        device=str(choose_device(arguments.device)),
        workers=arguments.workers,
    )
    following = shlex.join(["vexkd", "prepare", str(arguments.out), "--version", PRESETS[arguments.preset].version])
    print(f"{arguments.out}: synthetic dataset complete; next: {following}")


def prepare(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.index import MANIFEST, read_manifest
    from vexkd_model.data.inventory import Inventory, inventory_text
    from vexkd_model.data.prepare import prepare

    splits = [arguments.split] if arguments.split else None
    for folder in prepare(
        arguments.dataroot,
        arguments.version,
        index_dir(arguments),
        splits,
        arguments.force,
        arguments.workers,
        arguments.skip_bad,
    ):
        made = read_manifest(folder / MANIFEST)
        print(f"{folder}: index complete, {made['frames']} frames")
        print(inventory_text(Inventory.of_manifest(made), made["frames"], arguments.dataroot / arguments.version))
        if made["skipped_files"]:
            print(
                f"{folder}: {made['skipped_files']} problems, {made['skipped_frames']} frames left out, "
                f"{made['frames_with_damaged_map']} frames without their map, see {folder}_problems.txt"
            )


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        synth,
        "write a synthetic dataset in the official nuScenes schema",
        "vexkd synth data --preset demo --seed 1",
    )
    command.add_argument("out", type=Path, metavar="OUT", help="folder to write; an interrupted run is resumed")
    command.add_argument(
        "--preset",
        default="demo",
        choices=("demo", "bench-small", "bench-small-x4", "bench"),
        help="demo: v1.0-mini; bench-small: v1.0-trainval, for experiments on two CPU cores; "
        "bench-small-x4: the same with 700 train scenes; bench: for a GPU machine, 50 GB",
    )
    command.add_argument("--seed", type=int, default=1, help="other seeds give other streets (default: 1)")
    command.add_argument("--split", help="only the scenes of this official split, for example mini_val")
    command.add_argument("--scenes", help="only these scenes, for example scene-0103,scene-0916")
    command.add_argument(
        "--workers", type=positive_int, default=1, help="processes; the files do not depend on it (default: 1)"
    )
    command.add_argument("--device", default="cpu", help="cpu, cuda or auto; files differ in last bits (default: cpu)")

    command = add_command(
        commands,
        prepare,
        "index a nuScenes folder for training and evaluation",
        "vexkd prepare data --version v1.0-mini",
    )
    command.add_argument("dataroot", type=Path, metavar="DATAROOT", help="folder that holds samples/, sweeps/, maps/")
    add_dataset_arguments(command)
    command.add_argument("--force", action="store_true", help="write a complete index anew")
    command.add_argument(
        "--workers", type=positive_int, default=1, help="processes that check files and draw map masks (default: 1)"
    )
    command.add_argument(
        "--skip-bad",
        action="store_true",
        help="go on without missing and unreadable files; INDEX/SPLIT_problems.txt lists them",
    )

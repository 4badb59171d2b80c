"""`vexkd train`, `distill`, `extend`, `describe`: from a configuration to a trained run."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexkd_model.cli.arguments import (
    add_command,
    add_config_argument,
    add_dataroot_argument,
    add_dataset_arguments,
    add_set_argument,
    open_index,
)
from vexkd_model.command import positive_int
from vexkd_model.errors import UserError
from vexkd_model.files import write_json

# What is heavy is imported only after a configuration has been checked: a misspelt key is told within a second.

if TYPE_CHECKING:
    from vexkd_model.data.index import FrameIndex


def _set_up() -> None:
    """Set up a process that trains."""
    from vexkd_model.process import keep_all_freed_memory, set_up_process
    from vexkd_model.training.train import quiet_lightning

    set_up_process()
    keep_all_freed_memory()
    quiet_lightning()


def train(arguments: argparse.Namespace) -> None:
    from vexkd_model.config import load_config

    config = load_config(arguments.config, arguments.set)
    index = open_index(arguments, default=0)

    from vexkd_model.training.train import train

    _set_up()
    first = train(
        config,
        index,
        arguments.out,
        arguments.workers,
        arguments.resume,
        interactive=sys.stderr.isatty(),
        weights=arguments.weights,
        devices=arguments.devices,
        nodes=arguments.nodes,
        device=arguments.device,
    )
    if first:
        print(_trained(arguments))


def distill(arguments: argparse.Namespace) -> None:
    from vexkd_model.config import load_config

    config = load_config(arguments.config, arguments.set)
    index = open_index(arguments, default=0)

    from vexkd_model.training.distill import distill

    _set_up()
    first = distill(
        config,
        arguments.teacher,
        index,
        arguments.out,
        arguments.workers,
        arguments.resume,
        interactive=sys.stderr.isatty(),
        cache=arguments.cache,
        devices=arguments.devices,
        nodes=arguments.nodes,
        device=arguments.device,
        unlabelled=index if arguments.unlabelled == "" else _unlabelled(arguments),
    )
    if first:
        print(_trained(arguments))


def _unlabelled(arguments: argparse.Namespace) -> "FrameIndex | None":
    """Open the frames of --unlabelled DATAROOT[:VERSION[:SPLIT]], None without it."""
    from vexkd_model.data.index import FrameIndex, index_folder
    from vexkd_model.data.splits import split_names

    if arguments.unlabelled is None:
        return None
    place, version, split, *rest = [*arguments.unlabelled.split(":"), "", ""]
    if any(rest):
        raise UserError(f"--unlabelled {arguments.unlabelled}: must be DATAROOT, DATAROOT:VERSION or with :SPLIT")
    version = version or arguments.version
    split = split or split_names(Path(place), version)[0]
    return FrameIndex.open(index_folder(Path(place), version), split, Path(place), version)


def _trained(arguments: argparse.Namespace) -> str:
    following = [
        "vexkd",
        "evaluate",
        arguments.out,
        "--dataroot",
        arguments.dataroot,
        "--version",
        arguments.version,
        *(["--index", arguments.index] if arguments.index else []),
    ]
    return f"{arguments.out}: trained; next: {shlex.join(map(str, following))}"


def extend(arguments: argparse.Namespace) -> None:
    from vexkd_model.training.distill import distill
    from vexkd_model.training.extend import extend_run
    from vexkd_model.training.run import RECORD, training_index
    from vexkd_model.training.train import train

    _set_up()
    run: Path = arguments.run
    config = extend_run(run, arguments.epochs)
    record, index = json.loads((run / RECORD).read_text()), training_index(run, arguments.index)
    how: dict[str, Any] = {"resume": True, "interactive": sys.stderr.isatty(), "devices": record.get("processes", 1)}
    if "teacher" in record:
        teacher = arguments.teacher or Path(record["teacher"]["from"])
        first = distill(config, teacher, index, run, arguments.workers, **how)
    else:
        first = train(config, index, run, arguments.workers, **how)
    if first:
        print(f"{run}: trained for {arguments.epochs} epochs; next: vexkd evaluate {run} --dataroot … --version …")


def describe(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vexkd_model.config import load_config

    config = load_config(arguments.config, arguments.set)

    from vexkd_model.describe import as_text, describe

    described = describe(config)
    print(as_text(described))
    if arguments.json:
        write_json(arguments.json, {**asdict(described), "layers": [layer._asdict() for layer in described.layers]})
        print(f"{arguments.json}: written")


def _add_training_arguments(command: argparse.ArgumentParser) -> None:
    add_config_argument(command)
    add_dataroot_argument(command)
    add_dataset_arguments(command)
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of this run")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint of RUN")
    command.add_argument("--workers", type=int, default=1, help="processes that load data (default: 1)")
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: cuda where it can be used, else cpu (default: auto)",
    )
    command.add_argument(
        "--devices",
        type=positive_int,
        default=1,
        help="GPUs, or processes on a machine without, that train together (default: 1)",
    )
    command.add_argument(
        "--nodes",
        type=positive_int,
        default=1,
        help="machines that train together, each started with the same command or by torchrun (default: 1)",
    )
    add_set_argument(command)


def add_commands(commands: argparse._SubParsersAction) -> None:
    _add_train(commands)
    _add_distill(commands)
    _add_extend(commands)
    _add_describe(commands)


def _add_train(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        train,
        "train a student or a teacher on its tasks",
        "vexkd train config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-mini --out run",
    )
    _add_training_arguments(command)
    command.add_argument("--weights", type=Path, metavar="STUDENT", help="begin with the weights of this package")


def _add_distill(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        distill,
        "train a student on its tasks and on a teacher's BEV maps",
        "vexkd distill config/model/lidar_pillar_small.yaml --teacher runs/teacher "
        "--dataroot data --version v1.0-mini --out run",
    )
    _add_training_arguments(command)
    command.add_argument(
        "--unlabelled",
        nargs="?",
        const="",
        metavar="DATAROOT[:VERSION[:SPLIT]]",
        help="prepared frames that the teacher alone teaches, mixed with those of --dataroot (default: their VERSION, "
        "its first split); without a value, those of --dataroot themselves: no annotation is looked at",
    )
    command.add_argument(
        "--teacher",
        type=Path,
        required=True,
        metavar="RUN_OR_PACKAGE",
        help="of vexkd train, for example with config/model/vexkd_teacher_small.yaml",
    )
    command.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="compute the teacher's maps once and keep them here (about 5 MB a frame for the small "
        "teacher); needs a training without augmentation",
    )


def _add_extend(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        extend,
        "go on with a finished run to more epochs, where it was trained",
        "vexkd extend runs/first --epochs 30",
    )
    command.description = (
        "Go on with a finished run to more epochs. The learning rate goes on where a schedule over all N epochs would "
        "be by then, so that it rises once more and falls again; so does augmentation that is off for the last epochs. "
        "Epochs go on from the checkpoint, with the state of the optimiser. Interrupted, the same command goes on."
    )
    command.add_argument("run", type=Path, metavar="RUN", help="of vexkd train or vexkd distill")
    command.add_argument("--epochs", type=positive_int, required=True, metavar="N", help="in all, old ones included")
    command.add_argument("--workers", type=int, default=1, help="processes that load data (default: 1)")
    command.add_argument("--index", type=Path, metavar="DIR", help="folder of the frame index (default: where it was)")
    command.add_argument(
        "--teacher",
        type=Path,
        metavar="RUN_OR_PACKAGE",
        help="where the run's teacher lies now (default: where it lay)",
    )


def _add_describe(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        describe,
        "modules of a model, shapes at every hop, parameters, GFLOPs and memory",
        "vexkd describe config/model/bevdet_r50.yaml",
    )
    add_config_argument(command)
    add_set_argument(command)
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")

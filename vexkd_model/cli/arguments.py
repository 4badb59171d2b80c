"""Descriptions and arguments that several commands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vexkd_model.command import DEBUG_HELP

if TYPE_CHECKING:
    from vexkd_model.data.index import FrameIndex


def add_command(
    commands: argparse._SubParsersAction,
    run: Callable[[argparse.Namespace], int | None],
    text: str,
    example: str,
    details: str = "",
) -> argparse.ArgumentParser:
    """Add a command that is named like its function. details: paragraphs of its own help, below the text."""
    command = _described(commands, run.__name__.replace("_", "-"), text, example, details)
    command.set_defaults(command=run)
    return command


def add_group(commands: argparse._SubParsersAction, name: str, text: str, example: str) -> argparse._SubParsersAction:
    """Add a command that only holds others: `vexkd NAME KIND …`."""
    return _described(commands, name, text, example).add_subparsers(required=True, metavar="KIND")


def _described(
    commands: argparse._SubParsersAction, name: str, text: str, example: str, details: str = ""
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.\n\n{details}".rstrip(),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG_HELP)
    return command


def add_config_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "config",
        type=_config_path,
        metavar="CONFIG",
        help="a model's YAML, or the bare name of a shipped one, for example lidar_pillar_small",
    )


def _config_path(text: str) -> Path:
    from vexkd_model.config import FOLDER
    from vexkd_model.config.reading import find_config

    return find_config(text, FOLDER)


def add_set_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of CONFIG, for example training.epochs=5; may be repeated",
    )


def add_dataroot_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")


def add_dataset_arguments(command: argparse.ArgumentParser, required: bool = True) -> None:
    command.add_argument("--version", required=required, help="folder of the tables: v1.0-mini, v1.0-trainval, …")
    command.add_argument("--split", help="split of splits.json beside the tables or of nuScenes, for example mini_val")
    command.add_argument("--index", type=Path, help="folder of the frame index (default: DATAROOT/vexkd/VERSION)")


def index_dir(arguments: argparse.Namespace) -> Path:
    from vexkd_model.data.index import index_folder

    return arguments.index or index_folder(arguments.dataroot, arguments.version)


def open_index(arguments: argparse.Namespace, default: int) -> "FrameIndex":
    """Open the chosen split, or the dataset's by its number: the first is for training, the last for evaluation."""
    from vexkd_model.data.index import FrameIndex
    from vexkd_model.data.splits import split_names

    split = arguments.split or split_names(arguments.dataroot, arguments.version)[default]
    return FrameIndex.open(index_dir(arguments), split, arguments.dataroot, arguments.version)

"""`vexkd`: the command line of everything that trains. One file a group of commands, one function a command; the work
is done elsewhere."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from vexkd_model.cli import data, evaluation, figures, training
from vexkd_model.cli.arguments import DEBUG_HELP
from vexkd_model.errors import UserError

TOUR = """\
a first tour:
  vexkd synth data --preset demo --seed 1
  vexkd prepare data --version v1.0-mini
  vexkd train config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-mini --out run
  vexkd evaluate run --dataroot data --version v1.0-mini
  vexkd export run student"""

# Imports of torch and of the devkit stand inside the commands: `vexkd --help` must answer at once.


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exit code 0, 1 for a failure in one line, 2 for wrong use."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except UserError as error:
        if arguments.debug:
            traceback.print_exc()
        sys.exit(f"vexkd: {error}")
    except KeyboardInterrupt:
        sys.exit("vexkd: interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a place that cannot be written
        if arguments.debug:
            traceback.print_exc()
        sys.exit(f"vexkd: {error.filename}: {error.strerror}" if error.filename else f"vexkd: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vexkd", description="Train, evaluate and export bird's-eye-view models.", epilog=TOUR,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debug", action="store_true", help=DEBUG_HELP)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (data, training, evaluation, figures):
        group.add_commands(commands)
    return parser

"""Command line of everything that trains, `vexkd`.

One file a group of commands, one function a command; the work is done elsewhere.
"""

import argparse
from collections.abc import Sequence

from vexkd_model.cli import ablation, bench, data, environment, evaluation, figures, packages, training
from vexkd_model.command import make_parser, run_command

TOUR = """\
a first tour:
  vexkd synth data --preset demo --seed 1
  vexkd prepare data --version v1.0-mini
  vexkd train config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-mini --out run
  vexkd evaluate run --dataroot data --version v1.0-mini
  vexkd export run student"""

# Imports of torch and of the devkit stand inside the commands: `vexkd --help` must answer at once.


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; SystemExit where it fails, with the reason in one line."""
    parser = make_parser("vexkd", "Train, evaluate and export bird's-eye-view models.", TOUR)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (data, training, packages, evaluation, ablation, bench, figures, environment):
        group.add_commands(commands)
    return run_command(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int | None:
    return arguments.command(arguments)

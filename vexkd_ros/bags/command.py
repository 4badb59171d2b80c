"""How every bag command ends: exit code 0, or 1 with one line on stderr; argparse itself exits with 2."""

import argparse
import sys
from collections.abc import Callable, Sequence

from vexkd_model.errors import UserError


def run_command(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int | None],
                argv: Sequence[str] | None = None) -> int:
    """Parse `argv` (without ROS's own `--ros-args …`), run `command`, return the process's exit code."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args(_without_ros_arguments(sys.argv[1:] if argv is None else argv))
    try:
        return command(arguments) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except UserError as error:
        if arguments.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def _without_ros_arguments(argv: Sequence[str]) -> list[str]:
    """`ros2 run` and launch files append `--ros-args …`, up to `--` or the end; those are rclpy's."""
    kept, ours = [], True
    for argument in argv:
        if argument == "--ros-args":
            ours = False
        elif ours:
            kept.append(argument)
        elif argument == "--":
            ours = True
    return kept

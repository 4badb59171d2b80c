"""The frame around every program: arguments, errors of one line, exit codes.

Exit codes: 0 done; 1 an error, which is one line, `PROGRAM: what is wrong; the cure`; 2 wrong use; 130 Ctrl-C before it
was done. Nodes and the recorder run until Ctrl-C or SIGTERM: then their code is 0.
"""

import argparse
import gc
import importlib
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from vexkd_model.errors import Interrupted, UserError

DEVICE_HELP = "cpu, cuda or cuda:N; auto, the default, is cuda where it can be used, else cpu"
DEBUG_HELP = "show the traceback of an error"
INTERRUPTED = 128 + signal.SIGINT  # as shells report it


def make_parser(program: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Make a parser whose help keeps the line breaks of both texts."""
    parser = argparse.ArgumentParser(
        program, description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help=DEBUG_HELP)
    return parser


def run_command(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse `argv`, run `command` and return its exit code; raise SystemExit where it fails.

    argv: default sys.argv[1:]; ROS's own part of it, `--ros-args …`, is left to rclpy.
    """
    arguments = parser.parse_args(without_ros_arguments(sys.argv[1:] if argv is None else argv))
    try:
        code = command(arguments) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _end(parser, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (UserError, OSError) as error:  # OSError: a full disk, a place that cannot be written
        if arguments.debug:
            traceback.print_exc()
        if isinstance(error, Interrupted):
            return _end(parser, str(error), INTERRUPTED)
        if isinstance(error, OSError) and error.filename:
            raise SystemExit(f"{parser.prog}: {error.filename}: {error.strerror}") from None
        raise SystemExit(f"{parser.prog}: {error}") from None


def _end(parser: argparse.ArgumentParser, reason: str, code: int) -> int:
    print(f"{parser.prog}: {reason}", file=sys.stderr)
    raise SystemExit(code)


def run_program(module: str) -> int:
    """Import a program's module and run its `main`.

    A signal during the imports, which take seconds, ends the process at once: raised as KeyboardInterrupt within one of
    them, it would be a traceback, or be taken for a broken installation.
    """
    handlers = {
        number: signal.signal(number, _exit_at_once)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }  # a shell's background job
    # Imports make a quarter of a million objects and no garbage: looking through them took a fifth of their time.
    gc.disable()
    program = importlib.import_module(module)
    gc.freeze()
    gc.enable()
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        return program.main()
    except KeyboardInterrupt:  # between two lines here, or before the program's own handling
        return INTERRUPTED


def _exit_at_once(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


def without_ros_arguments(argv: Sequence[str]) -> list[str]:
    """Leave out `--ros-args …`, up to `--` or the end, which `ros2 run` and launch files append."""
    kept, ours = [], True
    for argument in argv:
        if argument == "--ros-args":
            ours = False
        elif ours:
            kept.append(argument)
        elif argument == "--":
            ours = True
    return kept


# --- Types of arguments: argparse shows their errors with the usage, exit code 2 --------------------------------------


def positive_int(text: str) -> int:
    """Parse a number of things, at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def positive_number(text: str) -> float:
    """Parse a speed, a rate or a duration, more than 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def seconds(text: str) -> float:
    """Parse a time [s], not negative."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def existing_folder(text: str) -> Path:
    """Parse the path of a folder."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return Path(text)


def names(text: str) -> tuple[str, ...]:
    """Parse names that are separated by commas."""
    return tuple(name.strip() for name in text.split(","))

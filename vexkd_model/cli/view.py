"""`vexkd view`: bags in a browser. Bags are vexkd_ros's matter: it is imported only when the command runs."""

import argparse
from pathlib import Path

from vexkd_model.cli.arguments import add_command
from vexkd_model.errors import UserError


def view(arguments: argparse.Namespace) -> None:
    try:
        from vexkd_ros.bags.view import write_view
    except ImportError as error:
        raise UserError(f"vexkd view: {error.name} is missing; install this package as a whole") from None

    count = write_view(arguments.out, arguments.bags, arguments.node, arguments.points, arguments.moments)
    size = arguments.out.stat().st_size / 1e6
    print(f"{arguments.out}: {count} moments, {size:.1f} MB; open it with a browser")


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(commands, view, "show bags in a browser: one HTML file that needs neither ROS nor a network",
                          "vexkd view bags/scene-0103 out/demo/published --out view.html")
    command.add_argument("bags", type=Path, nargs="+", metavar="BAG",
                         help="bag folders: what a student published, and what it was given")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="page to write")
    command.add_argument("--node", default="/student_node", help="name of the student node (default: /student_node)")
    command.add_argument("--points", default="/lidar/points", metavar="TOPIC",
                         help="of the point clouds (default: /lidar/points)")
    command.add_argument("--moments", type=_positive, default=100, metavar="N",
                         help="show at most so many, evenly chosen (default: 100)")


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)

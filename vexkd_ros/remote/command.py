"""Command vexkd-ros: parameters, states and topics of running nodes, where no `ros2` is installed."""

import argparse
import sys
from collections.abc import Callable, Sequence

import yaml

from vexkd_model.command import make_parser, positive_number, run_command
from vexkd_model.text_table import aligned
from vexkd_ros.remote.lifecycle import change_state, get_state
from vexkd_ros.remote.parameters import (
    describe_parameter,
    description,
    get_parameter,
    get_parameters,
    parameter_file,
    set_parameter,
)
from vexkd_ros.remote.session import Session
from vexkd_ros.remote.topics import watch_topics

TIMEOUT_S = 5.0
WATCHED_S = 3.0
HELP = """\
Ask running nodes for their parameters, states and topics, and change them, as `ros2 param`, `ros2 lifecycle`,
`ros2 node` and `ros2 topic` do where ROS 2 is installed as a whole."""
EXAMPLE = """\
examples:
  vexkd-ros nodes
  vexkd-ros param list /student_node
  vexkd-ros param set /student_node score_threshold 0.3
  vexkd-ros param dump /student_node > student.yaml      # for --ros-args --params-file student.yaml
  vexkd-ros lifecycle set /student_node deactivate
  vexkd-ros topics student_node"""
Do = Callable[[Session, argparse.Namespace], None]


def nodes(session: Session, arguments: argparse.Namespace) -> None:
    session.settle(session.nodes)
    print("\n".join(sorted(session.nodes())) or f"no node within {session.timeout_s:g} s")


def param_list(session: Session, arguments: argparse.Namespace) -> None:
    for name, value in get_parameters(session, session.find(arguments.node)).items():
        print(f"{name}: {_written(value)}")


def param_get(session: Session, arguments: argparse.Namespace) -> None:
    print(_written(get_parameter(session, session.find(arguments.node), arguments.name)))


def param_set(session: Session, arguments: argparse.Namespace) -> None:
    value = set_parameter(session, session.find(arguments.node), arguments.name, arguments.value)
    print(f"{arguments.name}: {_written(value)}")


def param_describe(session: Session, arguments: argparse.Namespace) -> None:
    print(description(describe_parameter(session, session.find(arguments.node), arguments.name)))


def param_dump(session: Session, arguments: argparse.Namespace) -> None:
    node = session.find(arguments.node)
    print(parameter_file(node, get_parameters(session, node)), end="")


def lifecycle_get(session: Session, arguments: argparse.Namespace) -> None:
    print(get_state(session, session.find(arguments.node)))


def lifecycle_set(session: Session, arguments: argparse.Namespace) -> None:
    print(change_state(session, session.find(arguments.node), arguments.transition))


def topics(session: Session, arguments: argparse.Namespace) -> None:
    found = watch_topics(session, arguments.seconds, arguments.pattern)
    if not found:
        print(f"no topic with a publisher within {session.timeout_s:g} s")
        return
    rows = [["topic", "type", "publishers", "subscribers", "Hz"]]
    for one in found:
        rate = "–" if one.rate is None else f"{one.rate:.1f}"
        rows.append([one.name, one.kind, str(one.publishers), str(one.subscribers), rate])
    print(aligned(rows))


def _written(value: object) -> str:
    """Write a value on one line as YAML does, so that `param set` reads it."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


def _add(
    commands: argparse._SubParsersAction, name: str, do: Do, about: str, *operands: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(do=do)
    for operand in operands:
        parser.add_argument(operand, metavar=operand.upper())
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("vexkd-ros", HELP, EXAMPLE)
    parser.add_argument(
        "--timeout",
        type=positive_number,
        default=TIMEOUT_S,
        metavar="S",
        help=f"seconds to wait for a node and for each answer (default: {TIMEOUT_S:g})",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "nodes", nodes, "names of all nodes")
    param = commands.add_parser("param", help="parameters of a node").add_subparsers(required=True, metavar="COMMAND")
    _add(param, "list", param_list, "all parameters with their values", "node")
    _add(param, "get", param_get, "value of a parameter", "node", "name")
    _add(param, "set", param_set, "set a parameter to a value, as YAML writes it", "node", "name", "value")
    _add(param, "describe", param_describe, "type, range and meaning of a parameter", "node", "name")
    _add(param, "dump", param_dump, "all parameters as a file for --params-file", "node")
    cycle = commands.add_parser("lifecycle", help="state of a lifecycle node")
    cycle = cycle.add_subparsers(required=True, metavar="COMMAND")
    _add(cycle, "get", lifecycle_get, "unconfigured, inactive, active or finalized", "node")
    _add(cycle, "set", lifecycle_set, "configure, activate, deactivate, cleanup or shutdown", "node", "transition")
    about = "topics that are published, with their rates; who listens makes an idle student compute"
    watched = _add(commands, "topics", topics, about)
    watched.add_argument("pattern", nargs="?", default="", metavar="PART", help="only topics with this in their names")
    watched.add_argument(
        "--seconds",
        type=positive_number,
        default=WATCHED_S,
        metavar="S",
        help=f"listen so long (default: {WATCHED_S:g})",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    def command(arguments: argparse.Namespace) -> None:
        with Session(arguments.timeout) as session:
            arguments.do(session, arguments)

    return run_command(_parser(), command, argv)


if __name__ == "__main__":
    sys.exit(main())

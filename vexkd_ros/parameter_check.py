"""Warnings about parameters that nobody reads: misspelt ones, and files for a node of another name."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node

from vexkd_model.errors import did_you_mean

PARAMETERS = "ros__parameters"
HINTS = {
    "DOUBLE": "a number with a fraction is written 1.0",
    "INTEGER": "write a whole number, 1",
    "BOOL": "write true or false",
    "STRING": "put it in quotes, \"'1'\"",
    "STRING_ARRAY": 'write names in brackets, "[front, back]"',
}


def warn_of_unused_parameters(node: Node, args: Sequence[str]) -> None:
    """Log a warning for each parameter that was given and that the node does not have, and for each parameter file
    whose sections are all for other nodes."""
    given = getattr(node, "_parameter_overrides", {})  # rclpy has no public name for it
    known = sorted(node.get_parameters_by_prefix(""))
    for name in sorted(given):
        if not node.has_parameter(name) and not name.startswith("qos_overrides."):
            node.get_logger().warning(f"parameter {name}: this node has none of that name{did_you_mean(name, known)}")
    for path in _parameter_files(args):
        sections = list(_sections(yaml.safe_load(path.read_text()) or {}))
        if sections and not any(names_node(section, node.get_fully_qualified_name()) for section in sections):
            node.get_logger().warning(
                f"{path}: its parameters are for {', '.join(sections)}; this node is "
                f"{node.get_fully_qualified_name()}, so none of them is used; write /** for any"
            )


def _parameter_files(args: Sequence[str]) -> list[Path]:
    return [Path(path) for option, path in pairwise(args) if option == "--params-file"]


def _sections(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield the node names of a parameter file, with their namespaces: "/**", "/robot1/student_node"."""
    for name, below in tree.items() if isinstance(tree, dict) else ():
        full = f"{prefix}/{str(name).strip('/')}"
        if isinstance(below, dict) and PARAMETERS in below:
            yield full
        else:
            yield from _sections(below, full)


def names_node(section: str, node: str) -> bool:
    """Tell whether a section of a parameter file is for a node: `*` is one name, `**` any number."""
    pattern = re.escape(section).replace(r"/\*\*", "(/[^/]+)*").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, node) is not None


def type_hint(error: InvalidParameterTypeException) -> str:
    """Say how a value of the type that was expected is written."""
    expected = str(error).rpartition("expecting type '")[2].partition("'")[0]
    return f"; {HINTS[expected]}" if expected in HINTS else ""

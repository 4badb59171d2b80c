"""YAML without its surprises: no key twice, and no plain word or number that other readers would take otherwise.

Plain scalars follow the core schema of YAML 1.2: `true`, `false`, decimal and hexadecimal numbers, `1e-3`. What YAML
1.1 reads beyond that is an error with its line: `on`, `yes`, `012`, `0b11`, `1_000`, `1:30`. Dates are text.
"""

import re
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
CORE = {
    f"{TAG}bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    f"{TAG}int": re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+"),
    f"{TAG}float": re.compile(
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
CURE = {
    f"{TAG}bool": "is a word to some readers and a truth value to others; write true or false, or quote it",
    f"{TAG}int": "is another number, or text, to other readers; write it in decimal digits alone, or quote it",
    f"{TAG}float": "is another number, or text, to other readers; write it in decimal digits alone, or quote it",
}


class SurprisingYaml(yaml.MarkedYAMLError):
    """YAML that may be read, but not as its author meant it; the message names the line."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)

    def __str__(self) -> str:
        assert self.problem_mark is not None
        return f"line {self.problem_mark.line + 1}: {self.problem}"


class _Loader(yaml.SafeLoader):
    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if node.style is not None:  # quoted
            return node
        core = next((tag for tag, pattern in CORE.items() if pattern.fullmatch(node.value)), None)
        if core is not None:
            node.tag = core
        elif node.tag in CORE:
            raise SurprisingYaml(f"`{node.value}` {CURE[node.tag]}", node.start_mark)
        elif node.tag == f"{TAG}timestamp":
            node.tag = f"{TAG}str"
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            mark = first.setdefault(key.value, key.start_mark)
            if mark is not key.start_mark:
                raise SurprisingYaml(
                    f"{key.value} stands here and in line {mark.line + 1}; keep one of them", key.start_mark
                )
        return node


def parse_yaml(text: str) -> Any:
    """Parse a YAML document; yaml.YAMLError, with SurprisingYaml among them, says what is wrong and where."""
    return yaml.load(text, _Loader)

"""`vexkd env`: the installation, and what in it does not fit together."""

import argparse
import sys
from pathlib import Path

from vexkd_model.cli.arguments import add_command
from vexkd_model.files import write_json


def env(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from vexkd_model.environment.check import check
    from vexkd_model.environment.facts import read_facts, rows
    from vexkd_model.findings import any_failed, summary

    facts = read_facts()
    findings = check(facts)
    for about, text in rows(facts).items():
        print(f"{about:11} {text}")
    print("\n".join(map(str, findings)) if findings else "everything fits together")
    if findings:
        print(summary(findings), file=sys.stderr)
    if arguments.json:
        write_json(arguments.json, {"facts": asdict(facts), "findings": [asdict(found) for found in findings]})
    return int(any_failed(findings))


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        env,
        "versions of Python, PyTorch, CUDA, spconv, runtimes and ROS, and what of them does not fit together, with "
        "its cure; exit code 1 where something cannot run",
        "vexkd env --json env.json",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="also write all of it here")

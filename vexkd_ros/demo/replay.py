"""Replay of the demo: node, player and recorder as processes of their own that talk over DDS, as on a vehicle."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from vexkd_model.data.index import FrameIndex
from vexkd_model.types import MAP_CLASSES
from vexkd_ros.bags.evaluator import NODE, Evaluation, KeyframesMissing, evaluate_bag
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.children import Children
from vexkd_ros.dds import free_domain, this_machine
from vexkd_ros.demo.inputs import PLAYED
from vexkd_ros.demo.steps import say

START_S = 120.0  # the most that the node may take until it listens
LAST_FRAME_S = 1.0  # for the node to finish what came last, and for the recorder to write it
TOPICS = [
    f"{NODE}/{name}" for name in ("detections", "markers", *(f"map/{name}" for name in MAP_CLASSES), "debug/latency")
]


def replay_and_score(
    bags: Sequence[Path], student: Path, rates: Sequence[float], out: Path, index: FrameIndex
) -> tuple[float, Evaluation]:
    """Return the first of the rates at which the node publishes every keyframe, and its score."""
    for rate in rates:
        replay(bags, student, rate, out / "published", out / "log")
        say("score what the node published")
        try:
            return rate, evaluate_bag(out / "published", index)
        except KeyframesMissing as error:
            if rate == rates[-1]:
                raise
            say(f"this machine was too busy ({error}); once more")
    raise ValueError("no rates")


def replay(bags: Sequence[Path], student: Path, rate: float, published: Path, logs: Path) -> None:
    """Play the bags to a student node and record what it publishes; UserError as soon as one of the three fails."""
    seconds = sum(_duration_s(bag) for bag in bags) / rate
    say(f"play to the student node over DDS, {seconds:.0f} s at rate {rate:g}")
    shutil.rmtree(published, ignore_errors=True)
    logs.mkdir(parents=True, exist_ok=True)
    with Children(os.environ | this_machine(free_domain())) as children:
        children.start(
            "student_node",
            _module(
                "student_node",
                "--ros-args",
                "-r",
                "points:=/lidar/points",
                "-p",
                f"model:={student.resolve()}",
                "-p",
                "autostart:=true",
                "-p",
                "input_reliability:=reliable",
                "-p",
                "score_threshold:=0.0",  # the official metrics want all boxes
            ),
            logs / "student_node.log",
        )
        children.start(
            "bag_recorder",
            _module("bags.recorder", *TOPICS, "/diagnostics", "--out", str(published)),
            logs / "bag_recorder.log",
        )
        children.start(
            "bag_player",
            _module(
                "bags.player",
                *map(str, bags),
                "--topics",
                ",".join(PLAYED),
                "--rate",
                str(rate),
                "--wait-for-subscribers",
                "/lidar/points",
                *TOPICS,
            ),
        )
        children.watch(START_S + 2 * seconds, until_end_of="bag_player")
        children.stop("bag_player")
        children.watch(LAST_FRAME_S)
        children.stop("bag_recorder")
        children.stop("student_node")


def _duration_s(bag: Path) -> float:
    with open_bag(bag, whole=True) as reader:
        return reader.duration * 1e-9


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"vexkd_ros.{name}", *arguments]

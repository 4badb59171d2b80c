"""Soak: a bag in a loop, a LiDAR and a camera student beside one another, and a companion that publishes faults.

Player and nodes are processes of their own, over DDS. Every few seconds one of the faults of benchmarks/faults.py comes
beside what the bag holds, in random order. Claims, exit code 1 where one fails: both nodes live, the memory of each
stays within 3 % of its median after the first minutes, and after no fault does the LiDAR student go without five sweeps
for more than 2 s of the bag's time. The bag is played slowly, so that this costs little.

    python benchmarks/soak.py bags/scene-0103 --minutes 60 --json soak.json
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from machine import machine

from vexkd_model.files import write_json
from vexkd_ros.dds import free_domain, this_machine

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticArray

MODELS = Path(__file__).parents[1] / "models"
WITHIN, SWEEPS_S, SWEEPS = 0.03, 2.0, 5
SETTLED_S = 300.0  # memory counts from then on, or from a quarter of a shorter run on
START_S = 120.0
NODES = {
    "lidar": ["-r", "points:=/lidar/points"],
    # The images of one moment come as far apart as the bag is slow.
    "camera": [
        "-p",
        "image_transport:=compressed",
        "-p",
        "use_reference:=true",
        "-r",
        "reference:=/keyframe",
        "-p",
        "camera_deadline:=2.0",
    ],
}


class Answer(NamedTuple):
    """Frame that a node has published. at: time.monotonic(). stamp_ns: its input's. full: of all its sweeps."""

    at: float
    stamp_ns: int
    full: bool


class Fired(NamedTuple):
    """Fault and when it came, by time.monotonic()."""

    name: str
    at: float


class Gap(NamedTuple):
    """Longest time without five sweeps after a fault, by the bag's time and by the clock."""

    fault: str
    bag_s: float
    clock_s: float


@dataclass
class Log:
    """Everything that was seen. answers: by node. memory: MB by node, one a second. reasons: of drops, by node."""

    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    fired: list[Fired] = field(default_factory=list)

    def take(self, node: str, message: "DiagnosticArray") -> None:
        """Note a message of ~/debug/latency."""
        parts = {item.key: item.value for item in next(iter(message.status)).values}
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.answers[node].append(Answer(time.monotonic(), stamp, int(parts.get("sweeps", SWEEPS)) >= SWEEPS))

    def take_diagnostics(self, message: "DiagnosticArray") -> None:
        """Note why inputs were dropped or made less of."""
        status = next(iter(message.status))
        name = status.name.removesuffix("_node: student")
        if name in NODES:
            self.reasons[name] = {
                item.key: int(item.value) for item in status.values if item.key.startswith(("drops: ", "degraded: "))
            }

    def without_sweeps(self, first_ns: int, last_ns: int) -> list[Gap]:
        """List the longest gap after each fault, until the next one.

        first_ns, last_ns: the bag's stamps; answers to a companion's own clouds of other times do not count. Where the
        bag began again in between, sweeps start anew without any fault, and nothing is said.
        """
        full = [answer for answer in self.answers["lidar"] if answer.full and first_ns <= answer.stamp_ns <= last_ns]
        gaps = []
        for fault, after in pairwise([*self.fired, Fired("", math.inf)]):
            around = [
                ((b.stamp_ns - a.stamp_ns) * 1e-9, b.at - a.at)
                for a, b in pairwise(full)
                if a.at < after.at and b.at > fault.at
            ]
            if around and all(by_bag > 0 for by_bag, _ in around):
                gaps.append(Gap(fault.name, *map(max, zip(*around, strict=True))))
        return gaps


def resident_mb(pid: int) -> float:
    """Return the memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Soak:
    """Processes of a soak, and the companion in this one."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        from faults import Companion  # after DDS's variables are set

        self._folder, self.log = folder, Log()
        self.companion = Companion()
        self._listen()
        self._receiver = threading.Thread(target=self.companion.executor.spin, daemon=True)
        self._receiver.start()
        self.nodes = {
            name: self._start(
                name,
                "student_node",
                "--ros-args",
                "-r",
                f"__node:={name}_node",
                "-p",
                f"model:={MODELS / f'{name}_distilled'}",
                "-p",
                "threads:=1",
                *wiring,
            )
            for name, wiring in NODES.items()
        }
        self._player = self._start(
            "player",
            "bags.player",
            str(arguments.bag),
            "--loop",
            "--rate",
            str(arguments.rate),
            "--wait-for-subscribers",
            "/lidar/points",
            "/keyframe",
        )

    def _start(self, name: str, module: str, *arguments: str) -> subprocess.Popen:
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen([sys.executable, "-m", f"vexkd_ros.{module}", *arguments], stdout=log, stderr=log)

    def _listen(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from vision_msgs.msg import Detection3DArray

        node = self.companion.node
        for name in NODES:
            node.create_subscription(DiagnosticArray, f"/{name}_node/debug/latency", partial(self.log.take, name), 50)
            node.create_subscription(Detection3DArray, f"/{name}_node/detections", lambda data: None, 10, raw=True)
        node.create_subscription(DiagnosticArray, "/diagnostics", self.log.take_diagnostics, 10)

    def wait_for_answers(self) -> None:
        """Return when each node has answered; SystemExit where one does not."""
        until = time.monotonic() + START_S
        while not all(self.log.answers[name] for name in NODES):
            if time.monotonic() > until or self.dead():
                raise SystemExit(f"error: no answers; {', '.join(self.dead()) or 'a node'} said: {self.last_words()}")
            time.sleep(0.1)

    def dead(self) -> list[str]:
        """Name the processes that have ended."""
        return [name for name, process in (*self.nodes.items(), ("player", self._player)) if process.poll() is not None]

    def last_words(self) -> str:
        """Return the end of each process's log."""
        return "\n".join(
            f"{path.stem}: {path.read_text(errors='replace')[-1500:]}" for path in sorted(self._folder.glob("*.log"))
        )

    def run(self, seconds: float, every_s: float, seed: int) -> None:
        """Publish faults until the time is over or a process has ended."""
        from faults import FAULTS

        random = np.random.default_rng(seed)
        begun = time.monotonic()
        due, told, left = begun + every_s, begun, []
        while (now := time.monotonic()) < begun + seconds and not self.dead():
            for name, process in self.nodes.items():
                self.log.memory[name].append(resident_mb(process.pid))
            if now >= due:
                left = left or list(random.permutation(list(FAULTS)))
                name = str(left.pop())
                self.log.fired.append(Fired(name, time.monotonic()))
                FAULTS[name](self.companion)
                due = now + every_s * random.uniform(0.7, 1.3)
            if now >= told:
                print(self._progress((now - begun) / 60), flush=True)
                told += 60
            time.sleep(max(1 + now - time.monotonic(), 0))

    def _progress(self, minutes: float) -> str:
        nodes = ", ".join(
            f"{name} {len(self.log.answers[name])} frames, {self.log.memory[name][-1]:.0f} MB" for name in NODES
        )
        return f"{minutes:5.1f} min: {len(self.log.fired)} faults; {nodes}"

    def close(self) -> dict[str, int]:
        """End all processes; return the exit codes of the nodes."""
        processes = [self._player, *self.nodes.values()]
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(30)
        self.companion.close()
        return {name: process.returncode for name, process in self.nodes.items()}


def figures(log: Log, bag: Path) -> dict:
    """Return what came of it, for people and programs."""
    from vexkd_ros.bags.reading import header_stamp_ns, open_bag

    with open_bag(bag) as reader:
        clouds = [connection for connection in reader.connections if connection.topic == "/lidar/points"]
        stamps = [header_stamp_ns(data) for _, _, data in reader.messages(clouds)]
    gaps = log.without_sweeps(min(stamps), max(stamps))
    return {
        "faults": {name: _of_fault(name, log, gaps) for name in sorted({fault.name for fault in log.fired})},
        "nodes": {name: {"frames": len(log.answers[name])} | _memory(log.memory[name]) for name in NODES},
        "reasons": log.reasons,
    }


def _of_fault(name: str, log: Log, gaps: list[Gap]) -> dict:
    own = [gap for gap in gaps if gap.fault == name]
    return {
        "times": sum(fault.name == name for fault in log.fired),
        "measured": len(own),
        "bag [s]": max((gap.bag_s for gap in own), default=0.0),
        "clock [s]": max((gap.clock_s for gap in own), default=0.0),
    }


def _memory(samples: list[float]) -> dict[str, float]:
    settled = np.array(samples[min(round(SETTLED_S), len(samples) // 4) :])
    median, least, most = (float(value) for value in (np.median(settled), settled.min(), settled.max()))
    return {
        "median [MB]": median,
        "least [MB]": least,
        "most [MB]": most,
        "farthest": max(most - median, median - least) / median,
    }


def report(found: dict) -> str:
    """Format the figures as Markdown."""
    lines = [
        "| fault | times | of these measured | longest without five sweeps: bag's time [s] | by the clock [s] |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {one['times']} | {one['measured']} | {one['bag [s]']:.2f} | {one['clock [s]']:.1f} |"
        for name, one in found["faults"].items()
    ]
    lines += [
        "",
        "| node | frames | memory, median [MB] | least … most | farthest from the median |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {one['frames']} | {one['median [MB]']:.1f} | {one['least [MB]']:.1f} … "
        f"{one['most [MB]']:.1f} | {one['farthest']:.1%} |"
        for name, one in found["nodes"].items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path, help="with clouds, six cameras and /keyframe")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=0.1, help="speed of the replay (default: 0.1, clouds at 2 Hz)")
    parser.add_argument("--every", type=float, default=7.0, metavar="S", help="between two faults (default: 7)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' order (default: 0)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    os.environ |= this_machine(free_domain())
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(arguments, Path(folder))
        try:
            soak.wait_for_answers()
            soak.run(arguments.minutes * 60, arguments.every, arguments.seed)
            ended = soak.dead()
        finally:
            codes = soak.close()
        if ended:
            print(f"ended: {', '.join(ended)}\n{soak.last_words()}", file=sys.stderr)
    found = figures(soak.log, arguments.bag) | {"ended": ended, "exit codes": codes}
    print(report(found))
    if arguments.json:
        write_json(arguments.json, found)
    recovered = all(one["bag [s]"] <= SWEEPS_S for one in found["faults"].values())
    steady = all(one["farthest"] <= WITHIN for one in found["nodes"].values())
    print(f"alive: {not ended}; back to five sweeps within {SWEEPS_S} s: {recovered}; memory steady: {steady}")
    return 0 if not ended and recovered and steady and not any(codes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

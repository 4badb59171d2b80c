"""Endurance of a student_node on a bag that is played in a loop: losses, latency, memory and time to start.

Node and player are processes of their own, over DDS. Measured: the time from the start of the node's process to its
first detections, and from a SIGKILL to the next ones where a launch file starts it again; for --seconds what is lost,
latency and memory; then its processor time while the bag goes on and nobody subscribes to an output. Claims, exit code
1 where one fails: nothing lost at that rate, memory within 5 % of its median after the first quarter, at most 2 GB at
its peak, first detections within 10 s, and idle at most 1 % of a core more than a node that only receives the same
messages.

    python benchmarks/node_on_bag.py bags/scene-0103 --student models/lidar_distilled --rate 0.25
    python benchmarks/node_on_bag.py bags/scene-0103 --student students/camera --rate 0.25 --seconds 120
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from machine import machine

from vexkd_model.deploy.card import read_card
from vexkd_model.files import write_json
from vexkd_model.progress import progress
from vexkd_ros.dds import free_domain, this_machine

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticArray

STARTS_WITHIN_S, PEAK_MB, FLAT, IDLE_SHARE = 10.0, 2048, 0.05, 0.01
WARM_UP_S, IDLE_S, GIVE_UP_S = 5.0, 20.0, 120.0
RESPAWN_S = 2.0  # of student.launch.py
CAMERA_INPUTS = ["-p", "image_transport:=compressed", "-p", "use_reference:=true", "-r", "reference:=/keyframe"]
# Receives what the node receives, arguments TOPIC:TYPE, and does nothing with it.
RECEIVER = """
import signal, sys, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
signal.signal(signal.SIGINT, signal.SIG_DFL)
node = rclpy.create_node("receiver")
for topic, kind in (argument.split(":") for argument in sys.argv[1:]):
    node.create_subscription(globals()[kind], topic, lambda message: None, qos_profile_sensor_data)
rclpy.spin(node)
"""


class Listener:
    """Subscriber of the node's outputs, which are counted, not decoded; keeps the last message of /diagnostics."""

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor

        rclpy.init()
        self.node = rclpy.create_node("node_on_bag")
        self.detections, self.first, self.status = 0, 0.0, {}
        self._outputs: list = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        threading.Thread(target=self._executor.spin, daemon=True).start()

    def listen(self) -> None:
        from nav_msgs.msg import OccupancyGrid
        from vision_msgs.msg import Detection3DArray
        from visualization_msgs.msg import MarkerArray

        from vexkd_model.types import MAP_CLASSES

        kinds = {
            "detections": Detection3DArray,
            "markers": MarkerArray,
            **{f"map/{name}": OccupancyGrid for name in MAP_CLASSES},
        }
        for name, kind in kinds.items():
            receive = self._on_detections if name == "detections" else lambda data: None
            self._outputs.append(self.node.create_subscription(kind, f"/student_node/{name}", receive, 10, raw=True))

    def stop_listening(self) -> None:
        for subscription in self._outputs:
            self.node.destroy_subscription(subscription)

    def _on_detections(self, data: bytes) -> None:
        self.first = self.first or time.monotonic()
        self.detections += 1

    def _on_diagnostics(self, message: "DiagnosticArray") -> None:
        first = next(iter(message.status))
        if first.name.endswith(": student"):
            self.status = {item.key: item.value for item in first.values} | {"message": first.message}


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_detections(listener: Listener, node: subprocess.Popen, begun: float) -> float:
    """Wait for the first detections; return the seconds from the node's start."""
    while not listener.first:
        if node.poll() is not None or time.monotonic() - begun > GIVE_UP_S:
            raise SystemExit("error: the node published nothing; its log is above")
        time.sleep(0.01)
    return listener.first - begun


def restart(listener: Listener, node: subprocess.Popen, command: Sequence[str]) -> tuple[subprocess.Popen, float]:
    """Kill the node and start it again as the launch files do; return it, and the seconds until it detects again."""
    begun = time.monotonic()
    node.kill()
    node.wait()
    time.sleep(RESPAWN_S)
    listener.first = 0.0  # what was on its way has come by now
    again = subprocess.Popen(command)
    return again, first_detections(listener, again, begun)


def measure_endurance(listener: Listener, node: subprocess.Popen, seconds: float) -> dict:
    """Measure losses, latency and memory while the bag is played."""
    time.sleep(WARM_UP_S)
    before, start, memory = listener.detections, listener.status, []
    for _ in progress(range(round(seconds)), "play", unit="s"):
        time.sleep(1.0)
        memory.append(memory_mb(node.pid))
    after = listener.status
    steady = np.array(memory[len(memory) // 4 :])
    median = float(np.median(steady))
    return {
        "seconds": seconds,
        "detections": listener.detections - before,
        "lost": int(after["drops"]) - int(start["drops"]),
        "status": after["message"],
        "total p50 [ms]": float(after["total p50 [ms]"]),
        "total p99 [ms]": float(after["total p99 [ms]"]),
        "memory median [MB]": median,
        "memory spread": float(np.abs(steady - median).max() / median),
        "memory peak [MB]": memory_mb(node.pid, "VmHWM"),
    }


def idle_share(listener: Listener, node: subprocess.Popen, receiver: subprocess.Popen) -> dict:
    """Measure the shares of a core that are used while nobody subscribes."""
    listener.stop_listening()
    time.sleep(WARM_UP_S)
    begun, before = time.monotonic(), [processor_s(process.pid) for process in (node, receiver)]
    time.sleep(IDLE_S)
    took, after = time.monotonic() - begun, [processor_s(process.pid) for process in (node, receiver)]
    idle, receiving = ((end - start) / took for start, end in zip(before, after, strict=True))
    return {"idle node": idle, "only receiving": receiving, "idle beyond receiving": idle - receiving}


def measure(arguments: argparse.Namespace) -> dict:
    os.environ |= this_machine(free_domain())
    _, card = read_card(arguments.student)
    sensor = card.sensors[0]
    cameras = [f"/{name.lower()}" for name in card.cameras] if sensor == "camera" else []
    received = {
        "/tf": "TFMessage",
        "/tf_static": "TFMessage",
        **(
            {f"{camera}/image/compressed": "CompressedImage" for camera in cameras}
            | {f"{camera}/camera_info": "CameraInfo" for camera in cameras}
            | {"/keyframe": "Header"}
            if cameras
            else {"/lidar/points": "PointCloud2"}
        ),
    }
    inputs = CAMERA_INPUTS if cameras else ["-r", "points:=/lidar/points"]
    listener, children = Listener(), []
    try:
        children.append(
            subprocess.Popen([sys.executable, "-c", RECEIVER, *(f"{topic}:{kind}" for topic, kind in received.items())])
        )
        children.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "vexkd_ros.bags.player",
                    str(arguments.bag),
                    "--loop",
                    "--rate",
                    str(arguments.rate),
                    "--wait-for-subscribers",
                    "/tf_static",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        listener.listen()
        time.sleep(WARM_UP_S)
        begun = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "vexkd_ros.student_node",
            "--ros-args",
            "-p",
            f"model:={arguments.student}",
            *inputs,
        ]
        children.append(subprocess.Popen(command))
        receiver, _, node = children
        figures = {"first detections [s]": first_detections(listener, node, begun)}
        children[-1], figures["detections after a kill [s]"] = restart(listener, node, command)
        node = children[-1]
        return figures | measure_endurance(listener, node, arguments.seconds) | idle_share(listener, node, receiver)
    finally:
        for child in reversed(children):
            child.send_signal(signal.SIGINT)
        for child in children:
            child.wait(20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--student", type=Path, required=True, help="student package")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the replay (default: 1)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of endurance (default: 120)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    figures = measure(arguments)
    print(f"\n{machine()}\n")
    for name, value in figures.items():
        print(f"| {name} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |")
    if arguments.json:
        write_json(arguments.json, figures)
    holds = (
        figures["first detections [s]"] < STARTS_WITHIN_S
        and not figures["lost"]
        and figures["memory spread"] < FLAT
        and figures["memory peak [MB]"] < PEAK_MB
        and figures["idle beyond receiving"] < IDLE_SHARE
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

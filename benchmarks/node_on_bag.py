"""Endurance of a student_node on a bag that is played in a loop: time by stage, losses, latency, memory and start.

Node and player are processes of their own, over DDS; this process subscribes to all outputs. Measured: the time from
the start of the node's process to its first detections, and from a SIGKILL to the next ones where a launch file starts
it again; for --seconds what is lost, the time of each stage, latency from the input to its detections, memory and
processor time; then the node's processor time while the bag goes on and nobody subscribes to an output.

The input's time is the arrival of what the player publishes at its stamp just before it: the transform of a cloud, the
reference of a set of images. Figures that a claim belongs to are printed beside it; exit code 1 where one fails.

    python benchmarks/node_on_bag.py bags/scene-0103 --student models/lidar_distilled
    python benchmarks/node_on_bag.py bags/scene-0103 --student models/camera_distilled --rate 6    # of a bag of 2 Hz
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from machine import machine

from vexkd_model.deploy.card import read_card
from vexkd_model.files import write_json
from vexkd_model.progress import progress
from vexkd_ros.bags.reading import header_stamp_ns
from vexkd_ros.dds import free_domain, this_machine

Holds = Callable[[float], bool]
# Wanted at 20 Hz of clouds and six cameras at 12 Hz.
CLAIMS: Mapping[str, tuple[str, Holds]] = {
    "first detections [s]": ("≤ 4", lambda value: value <= 4),
    "outside the model p50 [ms]": ("≤ 8", lambda value: value <= 8),
    "memory peak [MB]": ("< 600", lambda value: value < 600),
    "memory spread": ("< 0.05", lambda value: value < 0.05),
    "idle beyond receiving": ("< 0.01", lambda value: value < 0.01),
}
LIDAR_CLAIMS: Mapping[str, tuple[str, Holds]] = {
    "lost": ("0", lambda value: value == 0),
    "stamp to detections p50 [ms]": ("≤ 45", lambda value: value <= 45),
    "stamp to detections p99 [ms]": ("≤ 90", lambda value: value <= 90),
}
CAMERA_CLAIMS: Mapping[str, tuple[str, Holds]] = {"answered [Hz]": ("≥ 8", lambda value: value >= 8)}
WARM_UP_S, IDLE_S, GIVE_UP_S = 5.0, 20.0, 120.0
RESPAWN_S = 2.0  # of student.launch.py
CAMERA_INPUTS = ["-p", "image_transport:=compressed", "-p", "use_reference:=true", "-r", "reference:=/keyframe"]
NODE = "import sys; from vexkd_ros.programs import student_node; sys.exit(student_node())"  # as vexkd-student-node
STAGES = ("wait", "convert", "infer", "publish", "total")  # wait: for the frame before and other cameras
TIMES = ("preprocess", "inference", "postprocess", "total")
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
    """Subscriber of all outputs of the node, which come as bytes and are decoded afterwards, if at all.

    Times are those at which DDS received a message, not those of the callback.
    """

    def __init__(self, reference: str) -> None:
        """reference: topic that says when an input was played, /tf or one of std_msgs/Header."""
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from std_msgs.msg import Header
        from tf2_msgs.msg import TFMessage

        rclpy.init()
        self.node = rclpy.create_node("node_on_bag")
        self.first, self.status = 0.0, {}
        self.latencies: list[float] = []  # stamp to detections [ms]
        self.stages: list[bytes] = []  # messages of ~/debug/latency
        self._played: dict[int, int] = {}
        self._outputs: list = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        kind, self._offset = (TFMessage, 8) if reference == "/tf" else (Header, 4)
        self.node.create_subscription(kind, reference, cast(Any, self._on_reference), 100, raw=True)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        threading.Thread(target=self._executor.spin, daemon=True).start()

    def listen(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from nav_msgs.msg import OccupancyGrid
        from sensor_msgs.msg import Image
        from std_msgs.msg import Float64
        from vision_msgs.msg import Detection3DArray
        from visualization_msgs.msg import MarkerArray

        from vexkd_model.types import MAP_CLASSES

        kinds = {
            "detections": Detection3DArray,
            "markers": MarkerArray,
            **{f"map/{name}": OccupancyGrid for name in MAP_CLASSES},
            "map_image": Image,
            "map_labels": Image,
            "debug/latency": DiagnosticArray,
            **{f"debug/processing_time/{name}_ms": Float64 for name in TIMES},
        }
        receivers = {"detections": self._on_detections, "debug/latency": self.stages.append}
        for name, kind in kinds.items():
            receive = cast(Any, receivers.get(name, lambda data: None))
            self._outputs.append(self.node.create_subscription(kind, f"/student_node/{name}", receive, 10, raw=True))

    def stop_listening(self) -> None:
        for subscription in self._outputs:
            self.node.destroy_subscription(subscription)

    def _on_reference(self, data: bytes, info: Mapping[str, int]) -> None:
        self._played[header_stamp_ns(data, self._offset)] = info["received_timestamp"]

    def _on_detections(self, data: bytes, info: Mapping[str, int]) -> None:
        self.first = self.first or time.monotonic()
        played = self._played.get(header_stamp_ns(data))
        if played is not None:
            self.latencies.append((info["received_timestamp"] - played) * 1e-6)

    def _on_diagnostics(self, message: Any) -> None:
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


def measure_endurance(listener: Listener, processes: Mapping[str, subprocess.Popen], seconds: float) -> dict:
    """Measure losses, time by stage, latency, memory and processor time while the bag is played."""
    node = processes["node"]
    time.sleep(WARM_UP_S)
    start, memory = listener.status, []
    listener.latencies.clear()
    listener.stages.clear()
    begun, before = time.monotonic(), {name: processor_s(process.pid) for name, process in processes.items()}
    for _ in progress(range(round(seconds)), "play", unit="s"):
        time.sleep(1.0)
        memory.append(memory_mb(node.pid))
    took = time.monotonic() - begun
    shares = {f"{name} [cores]": (processor_s(p.pid) - before[name]) / took for name, p in processes.items()}
    latencies, after = np.array(listener.latencies), listener.status
    steady = np.array(memory[len(memory) // 4 :])
    median = float(np.median(steady))
    return {
        "seconds": seconds,
        "answered [Hz]": len(listener.stages) / took,
        "lost": int(after["drops"]) - int(start["drops"]),
        "status": after["message"],
        **percentiles("stamp to detections", latencies),
        **time_by_stage(listener.stages),
        **shares,
        "processor per frame [ms]": shares["node [cores]"] * took / max(len(listener.stages), 1) * 1e3,
        "memory median [MB]": median,
        "memory spread": float(np.abs(steady - median).max() / median),
        "memory peak [MB]": memory_mb(node.pid, "VmHWM"),
    }


def time_by_stage(messages: Sequence[bytes]) -> dict[str, float]:
    """Percentiles of the node's own times of each frame, from the bytes of ~/debug/latency."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.serialization import deserialize_message

    frames = [
        {item.key: float(item.value) for item in next(iter(deserialize_message(data, DiagnosticArray).status)).values}
        for data in list(messages)
    ]
    stages = {stage: np.array([frame[f"{stage}_ms"] for frame in frames]) for stage in STAGES}
    stages["outside the model"] = stages["convert"] + stages["publish"]
    return {name: value for stage, times in stages.items() for name, value in percentiles(stage, times).items()}


def percentiles(name: str, values: np.ndarray) -> dict[str, float]:
    return {f"{name} p{share} [ms]": float(np.percentile(values, share)) for share in (50, 99)}


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
    cameras = [f"/{name.lower()}" for name in card.cameras] if card.sensors[0] == "camera" else []
    received = {"/tf": "TFMessage", "/tf_static": "TFMessage"}
    for camera in cameras:
        received |= {f"{camera}/image/compressed": "CompressedImage", f"{camera}/camera_info": "CameraInfo"}
    received |= {"/keyframe": "Header"} if cameras else {"/lidar/points": "PointCloud2"}
    player = ["--loop", "--rate", str(arguments.rate), "--topics", ",".join(received), "--wait-for-subscribers", "/tf"]
    node = ["--ros-args", "-p", f"model:={arguments.student}", "-p", f"threads:={arguments.threads}"]
    node += CAMERA_INPUTS if cameras else ["-r", "points:=/lidar/points"]
    command = [sys.executable, "-c", NODE, *node]
    listener, children = Listener("/keyframe" if cameras else "/tf"), {}
    try:
        children["player"] = subprocess.Popen(
            [sys.executable, "-m", "vexkd_ros.bags.player", str(arguments.bag), *player],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        listener.listen()
        time.sleep(WARM_UP_S)
        begun = time.monotonic()
        children["node"] = subprocess.Popen(command)
        figures = {"first detections [s]": first_detections(listener, children["node"], begun)}
        children["node"], figures["detections after a kill [s]"] = restart(listener, children["node"], command)
        figures |= measure_endurance(listener, children, arguments.seconds)
        # Only now, for it would take its share of the processor from the node.
        topics = [f"{topic}:{kind}" for topic, kind in received.items()]
        children["receiver"] = subprocess.Popen([sys.executable, "-c", RECEIVER, *topics])
        return figures | idle_share(listener, children["node"], children["receiver"])
    finally:
        for child in reversed(children.values()):
            child.send_signal(signal.SIGINT)
        for child in children.values():
            end(child)


def end(child: subprocess.Popen) -> None:
    """Wait for a child that was asked to end; a loaded machine must not cost the figures."""
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def report(figures: Mapping[str, Any], claims: Mapping[str, tuple[str, Holds]]) -> bool:
    """Print the figures beside the claims; True if all of them hold."""
    print("\n| | wanted | |\n| --- | ---: | ---: |")
    failed = []
    for name, value in figures.items():
        wanted, holds = claims.get(name, ("", lambda value: True))
        if not holds(value):
            failed.append(name)
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        print(f"| {name} | {wanted} | {f'**{shown}**' if name in failed else shown} |")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--student", type=Path, required=True, help="student package, of LiDAR or of cameras")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the replay (default: 1)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of endurance (default: 120)")
    parser.add_argument("--threads", type=int, default=0, help="the node's parameter (default: 0, PyTorch's choice)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    figures = measure(arguments)
    if arguments.json:
        write_json(arguments.json, figures)
    cameras = read_card(arguments.student)[1].sensors[0] == "camera"
    return 0 if report(figures, {**CLAIMS, **(CAMERA_CLAIMS if cameras else LIDAR_CLAIMS)}) else 1


if __name__ == "__main__":
    sys.exit(main())

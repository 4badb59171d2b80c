"""Latency of a real student_node process over DDS: from a cloud's stamp to the arrival of its detections.

Clouds of a plausible street (ground, walls, cars) as a 32-beam LiDAR returns them are published with the odometry of a
vehicle that drives past. Each is stamped right before it is published, so the figure holds DDS both ways,
reading, transforms, accumulation of sweeps, inference and every message of the frame.

    python benchmarks/node_latency.py models/lidar_distilled --seconds 60 --rate 5
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from machine import machine

from vexkd_model.progress import progress
from vexkd_ros.dds import free_domain, this_machine

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2
    from tf2_msgs.msg import TFMessage

RESULT_TIMEOUT_S = 10.0
READY_TIMEOUT_S = 60.0
NODE = "import sys; from vexkd_ros.programs import student_node; sys.exit(student_node())"  # as vexkd-student-node
SPEED = 8.0  # of the vehicle [m/s]
STAGES = ("wait_ms", "convert_ms", "infer_ms", "publish_ms")


def street_sweep(rng: np.random.Generator, points: int) -> np.ndarray:
    """Simulate a 32-beam LiDAR 1.84 m above the ground: float32 (N, 4) x, y, z, intensity in its frame.

    Beams between −30.7° and +10.7° meet the ground, the walls on both sides of a street of random width, or a
    parked car; beams that meet nothing within 70 m are drawn again, so that exactly N points return.
    """
    sweep = np.empty((0, 4), np.float32)
    width, cars = rng.uniform(8, 14), rng.uniform(-40, 40, 12)
    while len(sweep) < points:
        azimuth = rng.uniform(-np.pi, np.pi, points)
        elevation = np.radians(rng.choice(np.linspace(-30.67, 10.67, 32), points))
        direction = np.stack(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
        )
        to_ground = np.where(direction[:, 2] < 0, -1.84 / np.minimum(direction[:, 2], -1e-6), np.inf)
        to_wall = width / np.maximum(np.abs(direction[:, 1]), 1e-6)
        to_car = (width - 3) / np.maximum(np.abs(direction[:, 1]), 1e-6)
        at_car = direction * to_car[:, None]
        hits_car = (np.abs(at_car[:, :1] - cars) < 2.2).any(axis=1) & (at_car[:, 2] > -1.84) & (at_car[:, 2] < -0.3)
        distance = np.minimum(np.where(hits_car, to_car, np.inf), np.minimum(to_ground, to_wall))
        distance = distance + rng.normal(0, 0.02, points)
        hits = (direction * distance[:, None])[(distance > 1.0) & (distance < 70.0)]
        intensity = rng.gamma(2.0, 8.0, len(hits)).clip(0, 255)
        sweep = np.concatenate([sweep, np.column_stack([hits, intensity]).astype(np.float32)])
    return sweep[:points]


class Client:
    """Client of the node in place of a vehicle: publishes transforms and clouds, collects the outputs."""

    def __init__(self, points: int) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from nav_msgs.msg import OccupancyGrid
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import PointCloud2
        from tf2_msgs.msg import TFMessage
        from vision_msgs.msg import Detection3DArray
        from visualization_msgs.msg import MarkerArray

        from vexkd_model.types import MAP_CLASSES

        rclpy.init()
        self.node = rclpy.create_node("latency_benchmark")
        self.arrivals: dict[int, int] = {}  # input stamp → arrival of its detections [ns]
        self.stages: list[dict[str, float]] = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf = self.node.create_publisher(TFMessage, "/tf", 100)
        self.tf_static = self.node.create_publisher(TFMessage, "/tf_static", latched)
        self.points = self.node.create_publisher(PointCloud2, "/points", 10)
        # Raw: decoding here must not take the processor from the node.
        arrived = cast(Any, self._arrived)  # rclpy's annotations know no raw messages
        self.node.create_subscription(Detection3DArray, "/student_node/detections", arrived, 10, raw=True)
        self.node.create_subscription(DiagnosticArray, "/student_node/debug/latency", self._staged, 10)
        for name in MAP_CLASSES:
            self.node.create_subscription(OccupancyGrid, f"/student_node/map/{name}", lambda data: None, 10, raw=True)
        self.node.create_subscription(MarkerArray, "/student_node/markers", lambda data: None, 10, raw=True)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        threading.Thread(target=self.executor.spin, daemon=True).start()
        rng = np.random.default_rng(0)
        self.clouds = [self._cloud(street_sweep(rng, points)) for _ in range(10)]

    def wait_for_node(self, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.points.get_subscription_count():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("error: the node did not become ready; its log is above")
            time.sleep(0.1)
        self.tf_static.publish(self._transform("base_link", "lidar_top", time.time_ns(), (0.94, 0.0, 1.84)))
        time.sleep(0.5)

    def publish(self, i: int) -> int:
        """Publish cloud i and the vehicle's pose at its stamp; return the stamp [ns]."""
        stamp = time.time_ns()
        cloud = self.clouds[i % len(self.clouds)]
        cloud.header.stamp.sec, cloud.header.stamp.nanosec = divmod(stamp, 10**9)
        self.tf.publish(self._transform("odom", "base_link", stamp, (SPEED * (stamp % 10**12) * 1e-9, 0.0, 0.0)))
        self.points.publish(cloud)
        return stamp

    def _arrived(self, data: bytes) -> None:
        now = time.time_ns()
        # CDR: 4 bytes of encapsulation, then the header's stamp.
        seconds, nanoseconds = np.frombuffer(data[4:12], "<u4").tolist()
        self.arrivals[seconds * 10**9 + nanoseconds] = now

    def _staged(self, message: "DiagnosticArray") -> None:
        self.stages.append({value.key: float(value.value) for value in next(iter(message.status)).values})

    def _cloud(self, points: np.ndarray) -> "PointCloud2":
        from array import array

        from sensor_msgs.msg import PointCloud2, PointField

        fields = [
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, name in enumerate(("x", "y", "z", "intensity"))
        ]
        cloud = PointCloud2(
            height=1,
            width=len(points),
            fields=fields,
            point_step=16,
            row_step=16 * len(points),
            data=array("B", points.tobytes()),
            is_dense=True,
        )
        cloud.header.frame_id = "lidar_top"
        return cloud

    def _transform(self, parent: str, child: str, stamp_ns: int, translation: tuple) -> "TFMessage":
        from geometry_msgs.msg import TransformStamped, Vector3
        from tf2_msgs.msg import TFMessage

        stamped = TransformStamped(child_frame_id=child)
        stamped.header.frame_id = parent
        stamped.header.stamp.sec, stamped.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        stamped.transform.translation = Vector3(x=translation[0], y=translation[1], z=translation[2])
        return TFMessage(transforms=[stamped])


def measure(client: Client, rate: float, seconds: float, warm_up: int) -> dict:
    """Publish clouds at a steady rate; return the figures of the frames after `warm_up`."""
    stamps, start = [], time.monotonic()
    for i in progress(range(warm_up + round(rate * seconds)), "latency", unit="clouds"):
        time.sleep(max(0.0, start + i / rate - time.monotonic()))
        stamps.append(client.publish(i))
    deadline = time.monotonic() + RESULT_TIMEOUT_S
    while len(client.arrivals) < len(stamps) and time.monotonic() < deadline:
        time.sleep(0.05)
    stamps = stamps[warm_up:]
    latencies = [(client.arrivals[stamp] - stamp) * 1e-6 for stamp in stamps if stamp in client.arrivals]
    if not latencies:
        raise SystemExit("error: the node published nothing; see its log above")
    stages = client.stages[-len(latencies) :]
    return {
        "clouds": len(stamps),
        "lost": len(stamps) - len(latencies),
        "median_ms": round(float(np.median(latencies)), 1),
        "p99_ms": round(float(np.percentile(latencies, 99)), 1),
        "max_ms": round(max(latencies), 1),
        "stages_median_ms": {
            stage.removesuffix("_ms"): round(float(np.median([s[stage] for s in stages])), 1) for stage in STAGES
        },
        "sweeps": int(stages[-1]["sweeps"]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="student package")
    parser.add_argument("--rate", type=float, default=5.0, help="clouds a second (default: 5)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of measurement (default: 60)")
    parser.add_argument("--points", type=int, default=34000, help="points a cloud (default: 34000)")
    parser.add_argument("--warm-up", type=int, default=10, metavar="CLOUDS", help="not counted (default: 10)")
    parser.add_argument("--device", default="cpu", help="of the student (default: cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    os.environ |= this_machine(free_domain())
    described = machine()
    node = subprocess.Popen(
        [
            sys.executable,
            "-c",
            NODE,
            "--ros-args",
            "-p",
            f"model:={arguments.model}",
            "-p",
            f"device:={arguments.device}",
            "-p",
            "input_reliability:=reliable",
        ]
    )
    try:
        client = Client(arguments.points)
        client.wait_for_node(node)
        figures = measure(client, arguments.rate, arguments.seconds, arguments.warm_up)
    finally:
        node.send_signal(signal.SIGINT)
        node.wait(15)
    figures = {
        "model": str(arguments.model),
        "points": arguments.points,
        "rate_hz": arguments.rate,
        "seconds": arguments.seconds,
        "device": arguments.device,
        "machine": described,
        **figures,
    }
    for key, value in figures.items():
        print(f"{key:18} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if not figures["lost"] else 1


if __name__ == "__main__":
    sys.exit(main())

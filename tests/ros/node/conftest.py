"""A student_node process and the vehicle around it: publishes clouds and transforms, collects what the node says."""

import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import SingleThreadedExecutor
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from support.messages import SECOND, cloud_message, transforms_message, values
from support.rig import AHEAD, lens
from tf2_msgs.msg import TFMessage
from torch import nn
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vexkd_model.config import ModelConfig, load_config
from vexkd_model.data.batch import sensors_for
from vexkd_model.deploy.package import save_package
from vexkd_model.model import BevModel, build_model
from vexkd_model.types import MAP_CLASSES, CameraImage, Frame

REPOSITORY = Path(__file__).parents[3]
TIMEOUT_S = 120.0  # a loaded machine is slow; nothing here waits that long where all is well
OUTPUTS = {
    "detections": Detection3DArray,
    "markers": MarkerArray,
    "map_image": Image,
    "debug/latency": DiagnosticArray,
    **{f"map/{name}": OccupancyGrid for name in MAP_CLASSES},
}
LIDAR_MOUNT = ((0.94, 0.0, 1.84), (0.7, 0.0, 0.0, -0.7))
NOWHERE = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student package whose weights are drawn, not trained: its detections mean nothing, but they are there."""
    torch.manual_seed(7)
    config = load_config(REPOSITORY / "config" / "model" / "lidar_pillar_small.yaml")
    folder = tmp_path_factory.mktemp("packages") / "untrained"
    save_package(folder, build_model(config), config, trained_on={}, metrics={}, source_revision="test")
    return folder


@pytest.fixture(scope="session")
def camera_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `package`, of a student with three cameras and a memory of one moment, that is quick on two cores."""
    torch.manual_seed(7)
    config = load_config(REPOSITORY / "config" / "model" / "bevdet4d_depth_small.yaml")
    images = config.camera.images.model_copy(
        update={"width": 128, "height": 48, "cameras": ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")}
    )
    config = config.model_copy(
        update={
            "camera": config.camera.model_copy(update={"images": images, "past_frames": 1}),
            "detection": config.detection.model_copy(update={"score_threshold": 1e-6}),
        }
    )
    folder = tmp_path_factory.mktemp("packages") / "cameras"
    save_package(folder, lively(build_model(config), config), config, trained_on={}, metrics={}, source_revision="test")
    return folder


def lively(model: BevModel, config: ModelConfig) -> BevModel:
    """Batch norms as if it had been trained: what it answers then depends on what it sees by more than a rounding."""
    images, random = config.camera.images, np.random.default_rng(1)
    intrinsics = lens(100.0, images.width, images.height)
    blocks = random.integers(0, 256, (len(images.cameras), images.height // 8, images.width // 8, 3), np.uint8)
    cameras = tuple(
        CameraImage(name, np.kron(block, np.ones((8, 8, 1), np.uint8)), 0, intrinsics, np.eye(3), AHEAD)
        for name, block in zip(images.cameras, blocks, strict=True)
    )
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.momentum = None  # the mean of what was seen
    with torch.no_grad():
        model.train()(sensors_for(config, [Frame(np.empty((0, 5), np.float32), 0, cameras=cameras)] * 2))
    return model


class NodeProcess:
    """A student_node in a process of its own; what it wrote to stderr is in `log`."""

    def __init__(self, log: Path, arguments: Sequence[str]) -> None:
        self._log = log
        with log.open("wb") as written:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vexkd_ros.student_node", "--ros-args", *arguments],
                stdout=written,
                stderr=written,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(TIMEOUT_S)

    def stop(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()


@pytest.fixture(scope="module")
def start_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., NodeProcess]]:
    """Start a node with `name=value` parameters, in float32; whatever still runs is killed when the module is over."""
    nodes: list[NodeProcess] = []

    def start(*arguments: str, **parameters: object) -> NodeProcess:
        given = {"precision": "float32", **parameters}  # as what is predicted offline to compare with
        settings = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        log = tmp_path_factory.mktemp("node") / "log.txt"
        nodes.append(NodeProcess(log, [*settings, *arguments]))
        return nodes[-1]

    yield start
    for node in nodes:
        node.process.kill()
        node.process.wait()


@pytest.fixture(scope="module")
def lidar_node(start_node: Callable[..., NodeProcess], package: Path, vehicle: "Vehicle") -> Iterator[NodeProcess]:
    """A node that hears every cloud; it lives as long as the module, and ends well."""
    node = start_node(model=package, threads=1, input_reliability="reliable", tf_timeout=1.0)
    vehicle.wait_until_node_listens()
    yield node
    assert node.stop() == 0, node.log


class Vehicle:
    """Everything around the node. Outputs are kept by topic and input stamp."""

    def __init__(self, listens: bool = True) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("vehicle", context=self._context)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._points = self.node.create_publisher(PointCloud2, "points", 20)
        self._tf = self.node.create_publisher(TFMessage, "/tf", 100)
        self._tf_static = self.node.create_publisher(TFMessage, "/tf_static", latched)
        self.outputs: dict[str, dict[int, object]] = defaultdict(dict)
        self.published_at: dict[str, dict[int, int]] = defaultdict(dict)
        self.statuses: list[DiagnosticStatus] = []
        self._statuses_before_last_cloud = 0
        self._changed = threading.Condition()
        if listens:
            self.listen()
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._receiver = threading.Thread(target=self._executor.spin)
        self._receiver.start()
        self._tf_static.publish(transforms_message([("base_link", "lidar_top", 0, *LIDAR_MOUNT)]))
        self.stamp_ns = 1_533_000_000 * SECOND  # 2018, as in a replayed bag: nothing may compare it with today

    def in_executor(self, act: Callable[[], object]) -> None:
        """Run it between two waits of the executor, which dies where another thread destroys what it waits for."""
        self.wait_for(self._executor.create_task(act).done, "the vehicle's executor")

    def listen(self) -> None:
        """Subscribe to all outputs."""
        for topic, kind in OUTPUTS.items():
            self.node.create_subscription(kind, f"student_node/{topic}", self._keep(topic), 20)

    def close(self) -> None:
        self._executor.shutdown()
        self._receiver.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def wait_for(self, condition: Callable[[], object], what: str) -> object:
        """Wait until it holds; what it returned."""
        deadline = time.monotonic() + TIMEOUT_S
        with self._changed:
            while not (found := condition()):
                assert time.monotonic() < deadline, f"waited {TIMEOUT_S:.0f} s for {what}"
                self._changed.wait(0.05)
        return found

    def wait_until_node_listens(self, *inputs: Publisher) -> None:
        """To clouds, or else to all of `inputs`."""
        listening = (*(inputs or [self._points]), self._tf, self._tf_static)
        self.wait_for(
            lambda: (
                all(publisher.get_subscription_count() for publisher in listening)
                and self.node.count_publishers("student_node/debug/latency")
            ),
            "an active student_node",
        )
        time.sleep(0.3)  # the node's side of the discovery

    def send_static(self, parent: str, **poses: tuple) -> None:
        """Poses of frames in `parent` on /tf_static."""
        self._tf_static.publish(transforms_message([(parent, frame, 0, *pose) for frame, pose in poses.items()]))

    def never_read(self, kind: type, topic: str) -> None:
        """Subscribe to a topic, reliably, and take nothing of what comes."""
        self._silent = rclpy.create_node("silent", context=self._context)
        self._silent.create_subscription(kind, topic, print, 10)
        self.wait_for(lambda: self.node.count_subscribers(topic) >= 2, f"a silent subscriber of {topic}")

    def send_odometry(self, stamp_ns: int, pose: tuple = NOWHERE) -> None:
        self._tf.publish(transforms_message([("odom", "base_link", stamp_ns, *pose)]))

    def send(self, cloud: PointCloud2, stamp_ns: int | None = None, pose: tuple | None = NOWHERE) -> int:
        """Publish a cloud and the ego pose at its stamp; the stamp is by default a new scene. Returns the stamp."""
        if stamp_ns is None:
            self.stamp_ns += 60 * SECOND
            stamp_ns = self.stamp_ns
        cloud.header.stamp.sec, cloud.header.stamp.nanosec = divmod(stamp_ns, SECOND)
        self.now_follows_an_input()
        if pose:
            self.send_odometry(stamp_ns, pose)
        self._points.publish(cloud)
        return stamp_ns

    def now_follows_an_input(self) -> None:
        """Statuses until now are no answer to it."""
        self._statuses_before_last_cloud = len(self.statuses)

    def result(self, stamp_ns: int, topic: str = "detections") -> object:
        """What the node said on one of its topics about the cloud with that stamp."""
        # The latency is published last: a test that goes on then meets an idle node.
        self.wait_for(lambda: stamp_ns in self.outputs["debug/latency"], f"the end of frame {stamp_ns}")
        self.wait_for(lambda: stamp_ns in self.outputs[topic], f"{topic} of {stamp_ns}")
        return self.outputs[topic][stamp_ns]

    def sweeps_used(self, stamp_ns: int) -> int:
        return int(values(self.result(stamp_ns, "debug/latency").status[0])["sweeps"])

    def status_that_says(self, text: str, level: bytes | None = None) -> DiagnosticStatus:
        """The newest status on /diagnostics since the last cloud whose message has the text in it, of a level if given.

        On a loaded machine a status may be an error first, because the answer is still to come.
        """
        found = self.wait_for(
            lambda: [
                s
                for s in self.statuses[self._statuses_before_last_cloud :]
                if text in s.message and level in (None, s.level)
            ],
            f"'{text}' in /diagnostics, which said: {[s.message for s in self.statuses[-2:]]}",
        )
        return found[-1]

    def _keep(self, topic: str) -> Callable:
        def keep(message: object, info: object) -> None:
            stamped = message.markers[0] if topic == "markers" else message
            stamp = stamped.header.stamp.sec * SECOND + stamped.header.stamp.nanosec
            with self._changed:
                self.outputs[topic][stamp] = message
                self.published_at[topic][stamp] = source_timestamp(info)
                self._changed.notify_all()

        return keep

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        with self._changed:
            self.statuses += message.status
            self._changed.notify_all()


def source_timestamp(info: object) -> int:
    return info["source_timestamp"] if isinstance(info, dict) else info.source_timestamp


@pytest.fixture(scope="session")
def transforms() -> Callable[..., TFMessage]:
    return transforms_message


@pytest.fixture(scope="module")
def vehicle() -> Iterator[Vehicle]:
    vehicle = Vehicle()
    yield vehicle
    vehicle.close()


@pytest.fixture
def silent_vehicle() -> Iterator[Vehicle]:
    """That subscribes to no output until it is told to listen."""
    vehicle = Vehicle(listens=False)
    yield vehicle
    vehicle.close()


@pytest.fixture(scope="session")
def make_cloud() -> Callable[..., PointCloud2]:
    return cloud_message

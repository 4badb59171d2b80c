"""Subscriptions of images and CameraInfo of several cameras for a camera student."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from vexkd_model.config.camera import CameraConfig
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_ros.health.endpoints import subscription_events
from vexkd_ros.health.node_health import REPLACED
from vexkd_ros.health.qos_match import QosRequest
from vexkd_ros.health.reporter import Reporter
from vexkd_ros.inputs.assembly import AssembledFrame
from vexkd_ros.inputs.camera_assembler import CameraAssembler
from vexkd_ros.inputs.camera_sync import ImageSet, ReceivedImage
from vexkd_ros.inputs.latest_slot import PendingInput
from vexkd_ros.inputs.reception import stamp_ns, subscribe
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.student_parameters import StudentParameters

REFERENCE = "reference"
DEPTH = 2


class CameraSource:
    """Hands messages to the assembler as they are; images only as long as an output is wanted.

    inputs: name of each camera → the topic of its images and the quality of service that is requested of it.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: StudentParameters,
        transforms: TransformBuffer,
        reporter: Reporter,
        monitor: SensorMonitor | None,
        wanted: Callable[[], bool],
        config: CameraConfig,
    ) -> None:
        self._node, self._parameters, self._reporter, self._wanted = node, parameters, reporter, wanted
        self._assembler = CameraAssembler(config, parameters.cameras, parameters.input_settings(), transforms, monitor)
        self._quality = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy[parameters.input_reliability.upper()])
        self._subscriptions: list[Subscription] = []
        self.inputs: dict[str, tuple[str, QosRequest]] = {}
        for i, topic in enumerate(parameters.cameras):
            if topic:
                self._subscribe_camera(i, topic)
        if parameters.use_reference:
            self._subscribe(Header, REFERENCE, self._on_reference)

    def _subscribe_camera(self, i: int, camera: str) -> None:
        compressed = self._parameters.image_transport == "compressed"
        topic, kind = (f"{camera}/image/compressed", CompressedImage) if compressed else (f"{camera}/image", Image)
        self._subscribe(CameraInfo, f"{camera}/camera_info", partial(self._assembler.add_info, i))
        images = self._subscribe(kind, topic, partial(self._on_image, i))
        reliable = self._quality.reliability == ReliabilityPolicy.RELIABLE
        self.inputs[camera] = images.topic_name, QosRequest(f"sensor_msgs/msg/{kind.__name__}", reliable)

    def _subscribe(self, kind: type, topic: str, callback: Callable[[Any], None]) -> Subscription:
        events = subscription_events(self._node.resolve_topic_name(topic), self._reporter.degrade)
        self._subscriptions.append(
            subscribe(self._node, kind, topic, callback, self._reporter.drop, self._quality, events)
        )
        return self._subscriptions[-1]

    def get(self) -> PendingInput[ImageSet] | None:
        """Wait for a set of images; None once this is stopped."""
        images = self._assembler.get()
        return images and PendingInput(images.stamp_ns, images.received, 0.0, images)

    def frame(self, pending: PendingInput[ImageSet]) -> AssembledFrame:
        """Make the student's input. Raises TransformUnavailable where not a single camera can be used."""
        self._reporter.health.synchronised(pending.payload.spread_ns * 1e-9)
        return self._assembler.frame(pending.payload, time.monotonic() + self._parameters.tf_timeout)

    def stop(self) -> None:
        """End the subscription; a waiting `get` returns None."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._assembler.stop()

    def close(self) -> None:
        """End the threads that decode, after the last `frame`."""
        self._assembler.close()

    def _on_image(self, camera: int, message: Image | CompressedImage) -> None:
        stamp = stamp_ns(message.header.stamp)
        self._reporter.received(self._parameters.cameras[camera], stamp)
        if not self._wanted():
            self._reporter.health.idle()
            return
        reason = self._assembler.add_image(camera, ReceivedImage(message, stamp, time.monotonic()))
        if reason:
            self._reporter.degrade(f"{self._parameters.cameras[camera]}: {reason}")

    def _on_reference(self, message: Header) -> None:
        if self._wanted() and self._assembler.refer(stamp_ns(message.stamp), time.monotonic()):
            self._reporter.health.dropped(REPLACED)

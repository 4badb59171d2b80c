"""Images and CameraInfo of several cameras → Frames of a camera student."""

import os
import time
from collections.abc import Callable
from functools import partial

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from vexkd_model.config.camera import CameraConfig
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_model.types import Frame
from vexkd_ros.health.endpoints import subscription_events
from vexkd_ros.health.node_health import REPLACED
from vexkd_ros.health.offers import Asked
from vexkd_ros.health.reporter import Reporter
from vexkd_ros.inputs.camera_history import CameraHistory
from vexkd_ros.inputs.camera_sync import CameraSync, ReceivedImage
from vexkd_ros.inputs.camera_views import Camera, CameraViews
from vexkd_ros.inputs.moment import Moment
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.student_parameters import StudentParameters

REFERENCE = "reference"
DEPTH = 2


class CameraSource:
    """Reception keeps messages as they are; only what is used is decoded, when `frame` needs it.

    inputs: name of each camera → the topic of its images and what is asked of it.
    """

    def __init__(self, node: LifecycleNode, parameters: StudentParameters, transforms: TransformBuffer,
                 reporter: Reporter, monitor: SensorMonitor | None, wanted: Callable[[], bool],
                 config: CameraConfig) -> None:
        self._node, self._parameters, self._reporter, self._monitor = node, parameters, reporter, monitor
        self._wanted = wanted
        cameras = [Camera(name, topic) for name, topic
                   in zip(config.images.cameras, parameters.cameras, strict=True)]
        self._sync = CameraSync(len(cameras), round(parameters.camera_tolerance * 1e9), parameters.camera_deadline,
                                parameters.use_reference)
        self._views = CameraViews(cameras, config.images, transforms, parameters.base_frame, parameters.odom_frame,
                                  threads=min(len(cameras), parameters.threads or len(os.sched_getaffinity(0))))
        self._history = CameraHistory(config.past_frames)
        self._infos: list[CameraInfo | None] = [None] * len(cameras)
        self._quality = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy[parameters.input_reliability.upper()])
        self._subscriptions = []
        self.inputs: dict[str, tuple[str, Asked]] = {}
        for i, camera in enumerate(cameras):
            if camera.topic:
                self._listen(i, camera.topic)
        if parameters.use_reference:
            self._subscribe(Header, REFERENCE, self._on_reference)

    def _listen(self, i: int, camera: str) -> None:
        compressed = self._parameters.image_transport == "compressed"
        topic, kind = (f"{camera}/image/compressed", CompressedImage) if compressed else (f"{camera}/image", Image)
        self._subscribe(CameraInfo, f"{camera}/camera_info", partial(self._on_info, i))
        images = self._subscribe(kind, topic, partial(self._on_image, i))
        reliable = self._quality.reliability == ReliabilityPolicy.RELIABLE
        self.inputs[camera] = images.topic_name, Asked(f"sensor_msgs/msg/{kind.__name__}", reliable)

    def _subscribe(self, kind: type, topic: str, callback: Callable) -> Subscription:
        events = subscription_events(self._node.resolve_topic_name(topic), self._reporter.degrade)
        self._subscriptions.append(
            self._node.create_subscription(kind, topic, callback, self._quality, event_callbacks=events))
        return self._subscriptions[-1]

    def take(self) -> Moment | None:
        """Wait for a set of images; None once this is stopped."""
        found = self._sync.take()
        return found and Moment(Time(nanoseconds=found.stamp_ns), found.received, 0.0, found)

    def frame(self, moment: Moment) -> tuple[Frame, dict[str, int]]:
        """The student's input, and how many cameras and past moments are in it.

        Raises TransformUnavailable where not a single camera can be used.
        """
        found = moment.sensed
        self._reporter.health.synchronised(found.spread_ns * 1e-9)
        seen = self._views.see(found.stamp_ns, found.images, self._infos,
                               deadline=time.monotonic() + self._parameters.tf_timeout)
        for reason in seen.reasons:
            self._reporter.degrade(reason)
        for image in seen.cameras if self._monitor else ():
            self._monitor.see_camera(image)
        frame = self._history.frame(found.stamp_ns, seen)
        return frame, {"cameras": len(frame.cameras), "past": len(frame.past)}

    def stop(self) -> None:
        """No more input; `take` returns."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._sync.close()

    def close(self) -> None:
        """After the last `frame`."""
        self._views.close()

    def _on_image(self, camera: int, message: Image | CompressedImage) -> None:
        stamp = Time.from_msg(message.header.stamp)
        self._reporter.received(self._parameters.cameras[camera], stamp)
        if not self._wanted():
            self._reporter.health.idle()
            return
        reason = self._sync.give(camera, ReceivedImage(message, stamp.nanoseconds, time.monotonic()))
        if reason:
            self._reporter.degrade(f"{self._parameters.cameras[camera]}: {reason}")

    def _on_info(self, camera: int, message: CameraInfo) -> None:
        self._infos[camera] = message

    def _on_reference(self, message: Header) -> None:
        if self._wanted() and self._sync.refer(Time.from_msg(message.stamp).nanoseconds, time.monotonic()):
            self._reporter.health.dropped(REPLACED)

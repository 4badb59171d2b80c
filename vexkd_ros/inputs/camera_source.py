"""Images and CameraInfo of several cameras → Frames of a camera student."""

import os
import time
from functools import partial

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from vexkd_model.config.camera import CameraConfig
from vexkd_model.types import POINT_FIELDS, Frame
from vexkd_ros.inputs.camera_history import CameraHistory
from vexkd_ros.inputs.camera_sync import CameraSync, ReceivedImage
from vexkd_ros.inputs.camera_views import Camera, CameraViews
from vexkd_ros.inputs.moment import Moment
from vexkd_ros.inputs.transforms import TransformBuffer, TransformUnavailable
from vexkd_ros.outputs.diagnostics import REPLACED
from vexkd_ros.reporter import Reporter
from vexkd_ros.student_parameters import StudentParameters

IMAGE_DEPTH, INFO_DEPTH = 2, 2
NO_IMAGE = "no camera has a usable image"
NO_POINTS = np.empty((0, len(POINT_FIELDS)), np.float32)


class CameraSource:
    """Reception keeps messages as they are; only what is used is decoded, when `frame` needs it."""

    def __init__(self, node: LifecycleNode, parameters: StudentParameters, transforms: TransformBuffer,
                 reporter: Reporter, config: CameraConfig) -> None:
        self._node, self._parameters, self._reporter = node, parameters, reporter
        cameras = [Camera(name, topic) for name, topic
                   in zip(config.images.cameras, parameters.cameras, strict=True)]
        self._sync = CameraSync(len(cameras), round(parameters.camera_tolerance * 1e9), parameters.camera_deadline,
                                parameters.use_reference)
        self._views = CameraViews(cameras, config.images, transforms, parameters.base_frame, parameters.odom_frame,
                                  threads=min(len(cameras), parameters.threads or len(os.sched_getaffinity(0))))
        self._history = CameraHistory(config.past_frames)
        self._infos: list[CameraInfo | None] = [None] * len(cameras)
        reliability = ReliabilityPolicy[parameters.input_reliability.upper()]
        quality = QoSProfile(depth=IMAGE_DEPTH, reliability=reliability)
        kind, suffix = (CompressedImage, "/compressed") if parameters.image_transport == "compressed" else (Image, "")
        self._image_subscriptions = [
            node.create_subscription(kind, f"{camera.topic}/image{suffix}", partial(self._on_image, i), quality)
            for i, camera in enumerate(cameras) if camera.topic]
        self._other_subscriptions = [
            node.create_subscription(CameraInfo, f"{camera.topic}/camera_info", partial(self._on_info, i),
                                     QoSProfile(depth=INFO_DEPTH, reliability=reliability))
            for i, camera in enumerate(cameras) if camera.topic]
        if parameters.use_reference:
            self._other_subscriptions.append(node.create_subscription(Header, "reference", self._on_reference, quality))

    @property
    def topics(self) -> list[str]:
        """What it listens to, the images."""
        return [subscription.topic_name for subscription in self._image_subscriptions]

    def take(self) -> Moment | None:
        """Wait for a set of images; None once this is stopped."""
        found = self._sync.take()
        return found and Moment(Time(nanoseconds=found.stamp_ns), found.received, 0.0, found)

    def frame(self, moment: Moment) -> tuple[Frame, dict[str, int]]:
        """The student's input, and how many cameras and past moments are in it.

        Raises TransformUnavailable where not a single camera can be used.
        """
        found = moment.sensed
        seen = self._views.see(found.stamp_ns, found.images, self._infos,
                               deadline=time.monotonic() + self._parameters.tf_timeout)
        for reason in seen.reasons:
            self._reporter.degrade(reason)
        if not seen.cameras:
            raise TransformUnavailable(NO_IMAGE, "; ".join(seen.reasons))
        past = self._history.past(found.stamp_ns, seen.odom_from_base)
        self._history.add(found.stamp_ns, seen.cameras, seen.odom_from_base)
        frame = Frame(NO_POINTS, found.stamp_ns, cameras=seen.cameras, past=past)
        return frame, {"cameras": len(seen.cameras), "past": len(past)}

    def stop(self) -> None:
        """No more input; `take` returns."""
        for subscription in (*self._image_subscriptions, *self._other_subscriptions):
            self._node.destroy_subscription(subscription)
        self._sync.close()

    def close(self) -> None:
        """After the last `frame`."""
        self._views.close()

    def _on_image(self, camera: int, message: Image | CompressedImage) -> None:
        stamp = Time.from_msg(message.header.stamp)
        self._reporter.received(stamp)
        reason = self._sync.give(camera, ReceivedImage(message, stamp.nanoseconds, time.monotonic()))
        if reason:
            self._reporter.degrade(f"{self._parameters.cameras[camera]}: {reason}")

    def _on_info(self, camera: int, message: CameraInfo) -> None:
        self._infos[camera] = message

    def _on_reference(self, message: Header) -> None:
        if self._sync.refer(Time.from_msg(message.stamp).nanoseconds, time.monotonic()):
            self._reporter.health.dropped(REPLACED)

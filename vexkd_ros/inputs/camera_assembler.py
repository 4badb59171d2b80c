"""Assembly of images, CameraInfo and transforms to the Frames of a camera student. Knows no node: a bag will do."""

import os
from collections.abc import Sequence
from typing import Any

from vexkd_model.config.camera import CameraConfig
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_ros.inputs.assembly import AssembledFrame, InputSettings
from vexkd_ros.inputs.camera_history import CameraHistory
from vexkd_ros.inputs.camera_sync import CameraSync, ImageSet, ReceivedImage
from vexkd_ros.inputs.camera_views import CameraTopic, CameraViews
from vexkd_ros.inputs.transforms import TransformBuffer


class CameraAssembler:
    """Assembles Frames. Messages are kept as they are; only what is used is decoded, when `frame` needs it.

    One thread adds, another gets and makes frames.
    """

    def __init__(
        self,
        config: CameraConfig,
        topics: Sequence[str],
        settings: InputSettings,
        transforms: TransformBuffer,
        monitor: SensorMonitor | None = None,
    ) -> None:
        """topics: the vehicle's names of the student's cameras, in its order; '' for one that it lacks."""
        cameras = [CameraTopic(name, topic) for name, topic in zip(config.images.cameras, topics, strict=True)]
        self._monitor = monitor
        self._sync = CameraSync(
            len(cameras), round(settings.camera_tolerance * 1e9), settings.camera_deadline, settings.use_reference
        )
        self._views = CameraViews(
            cameras,
            config.images,
            transforms,
            settings.base_frame,
            settings.odom_frame,
            threads=min(len(cameras), settings.threads or len(os.sched_getaffinity(0))),
        )
        self._history = CameraHistory(config.past_frames)
        self._infos: list[Any] = [None] * len(cameras)

    def add_image(self, camera: int, image: ReceivedImage) -> str:
        """Take in an image; return why it, or an older one, had to be dropped, or ''."""
        return self._sync.put(camera, image)

    def add_info(self, camera: int, info: Any) -> None:
        """Take in a sensor_msgs/CameraInfo, which counts until the next one."""
        self._infos[camera] = info

    def refer(self, stamp_ns: int, received: float) -> bool:
        """Ask for the images of a moment; True if that replaced a moment that nobody had got."""
        return self._sync.refer(stamp_ns, received)

    def get(self) -> ImageSet | None:
        """Wait for a set of images; None once this is stopped."""
        return self._sync.get()

    def frame(self, images: ImageSet, deadline: float) -> AssembledFrame:
        """Make the Frame of a set of images.

        Waits until `deadline` (time.monotonic()) for late transforms. Raises TransformUnavailable where not a single
        camera can be used.
        """
        views = self._views.view(images, self._infos, deadline)
        if self._monitor:
            for image in views.cameras:
                self._monitor.see_camera(image)
        frame = self._history.frame(images.stamp_ns, views)
        return AssembledFrame(frame, {"cameras": len(frame.cameras), "past": len(frame.past)}, views.reasons)

    def stop(self) -> None:
        """End the input: `get` returns."""
        self._sync.close()

    def close(self) -> None:
        """End the threads that decode, after the last `frame`."""
        self._views.close()

"""Views of a student's cameras, from images of one moment, CameraInfo and transforms."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vexkd_model.config.camera import ImageConfig
from vexkd_model.geometry.transforms import inverse
from vexkd_model.types import CameraImage
from vexkd_ros.inputs.calibration import read_calibration, undistorted_view
from vexkd_ros.inputs.camera_sync import ImageSet, ReceivedImage
from vexkd_ros.inputs.errors import ImageError, InputError, Reason, TransformUnavailable
from vexkd_ros.inputs.images import SampleDepth, stored_image
from vexkd_ros.inputs.transforms import TransformBuffer


@dataclass(frozen=True)
class CameraTopic:
    """Camera of the student. name: nuScenes' channel that it knows it by. topic: the vehicle's name, cam_front."""

    name: str
    topic: str


@dataclass(frozen=True)
class CameraFrameSet:
    """Views of one moment. cameras: those that could be used.

    odom_from_base: float64 (4, 4) at the moment, None without odometry.
    reasons: why a camera is missing or worse than it should be.
    """

    cameras: tuple[CameraImage, ...]
    odom_from_base: np.ndarray | None
    reasons: tuple[Reason, ...]


class CameraViews:
    """Reader that decodes, resamples and places images."""

    def __init__(
        self,
        cameras: Sequence[CameraTopic],
        images: ImageConfig,
        transforms: TransformBuffer,
        base_frame: str,
        odom_frame: str,
        threads: int,
    ) -> None:
        self._cameras, self._images = tuple(cameras), images
        self._transforms, self._base_frame, self._odom_frame = transforms, base_frame, odom_frame
        self._depths = {camera.topic: SampleDepth() for camera in cameras}
        self._pool = ThreadPoolExecutor(threads, "images")

    def close(self) -> None:
        """End the threads that decode."""
        self._pool.shutdown()

    def view(self, images: ImageSet, infos: Sequence[Any | None], deadline: float) -> CameraFrameSet:
        """Make the views of a set; infos: CameraInfo of each camera or None. base_link is that of the set's stamp.

        Waits until `deadline` (time.monotonic()) for late transforms. Without odometry the vehicle counts as standing
        still between the images.
        """
        stamp_ns, odom_from_base, motion = images.stamp_ns, None, None
        try:
            odom_from_base = self._transforms.wait(self._odom_frame, self._base_frame, stamp_ns, deadline)
        except TransformUnavailable as error:
            motion = error.reason("the vehicle's motion between images is not known: {}")
        results = list(
            self._pool.map(
                lambda camera, image, info: self._view(camera, image, info, stamp_ns, odom_from_base, deadline),
                self._cameras,
                images.images,
                infos,
            )
        )
        reasons = [result for result in results if isinstance(result, Reason)]
        cameras = tuple(result for result in results if isinstance(result, CameraImage))
        moving = any(camera.stamp_ns != stamp_ns for camera in cameras)
        return CameraFrameSet(cameras, odom_from_base, (*reasons, *([motion] if motion and moving else [])))

    def _view(
        self,
        camera: CameraTopic,
        image: ReceivedImage | None,
        info: Any | None,
        stamp_ns: int,
        odom_from_base: np.ndarray | None,
        deadline: float,
    ) -> CameraImage | Reason:
        """Return the camera's view, or why there is none."""
        masked = f"{camera.topic}: {{}}: the camera is masked"
        if image is None:
            return ImageError("no image at this moment").reason(masked)
        if info is None:
            return ImageError(f"no message on {camera.topic}/camera_info").reason(masked)
        try:
            stored = stored_image(image.message, self._depths[camera.topic])
            calibration = read_calibration(info, stored.size)
            pixels, image_from_stored = undistorted_view(stored, calibration, self._images)
            base_from_camera = self._mount(image, info, stamp_ns, odom_from_base, deadline)
        except InputError as error:
            return error.reason(masked)
        except (cv2.error, MemoryError) as error:  # of an image that is as it should be but for its size
            return ImageError("the image cannot be resampled; check its size", str(error)).reason(masked)
        except Exception as error:  # one image that fails must not cost the others
            return ImageError(f"the image could not be used, {type(error).__name__}", str(error)).reason(masked)
        return CameraImage(
            camera.name, pixels, image.stamp_ns, calibration.intrinsics, image_from_stored, base_from_camera
        )

    def _mount(
        self, image: ReceivedImage, info: Any, stamp_ns: int, odom_from_base: np.ndarray | None, deadline: float
    ) -> np.ndarray:
        """Return float64 (4, 4): from the camera at its own stamp to base_link at `stamp_ns`."""
        frame = image.message.header.frame_id or info.header.frame_id
        if not frame:
            raise TransformUnavailable("its images have no frame_id; set it in the driver")
        base_from_sensor = self._transforms.wait(self._base_frame, frame, image.stamp_ns, deadline, for_unknown=True)
        if odom_from_base is None or image.stamp_ns == stamp_ns:
            return base_from_sensor
        then = self._transforms.wait(self._odom_frame, self._base_frame, image.stamp_ns, deadline)
        return inverse(odom_from_base) @ then @ base_from_sensor

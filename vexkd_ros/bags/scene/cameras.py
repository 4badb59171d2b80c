"""Camera images as CompressedImage, their bytes as they are stored, each with its CameraInfo."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from vexkd_model.errors import UserError
from vexkd_ros.bags.scene.geometry import header
from vexkd_ros.bags.scene.tables import Capture
from vexkd_ros.bags.scene.topics import Due, camera_info_topic, image_topic
from vexkd_ros.bags.typestore import message_type

NO_DISTORTION = np.zeros(5)  # nuScenes' images are rectified


def camera_messages(channel: str, captures: tuple[Capture, ...]) -> Iterator[Due]:
    """The images of CAM_FRONT on /cam_front/image/compressed, and /cam_front/camera_info at the same stamps."""
    frame, images, infos = channel.lower(), image_topic(channel), camera_info_topic(channel)
    for capture in captures:
        yield Due(capture.stamp_ns, infos, partial(camera_info, capture, frame))
        yield Due(capture.stamp_ns, images, partial(compressed_image, capture, frame))


def compressed_image(capture: Capture, frame: str) -> object:
    """The file as it is; nothing is decoded. UserError names a file that cannot be read or is empty."""
    try:
        data = np.fromfile(capture.path, np.uint8)
    except OSError as error:
        raise UserError(f"{capture.path}: image cannot be read ({error.strerror}); complete the download") from None
    if not len(data):
        raise UserError(f"{capture.path}: empty image; download it again")
    suffix = capture.path.suffix.lower().lstrip(".")
    return message_type("sensor_msgs/msg/CompressedImage")(
        header(capture.stamp_ns, frame), "jpeg" if suffix == "jpg" else suffix, data)


def camera_info(capture: Capture, frame: str) -> object:
    """A pinhole camera without distortion; z of the frame is along the view."""
    intrinsics = np.array(capture.intrinsics, np.float64)
    projection = np.column_stack([intrinsics.reshape(3, 3), np.zeros(3)])
    width, height = capture.size
    return message_type("sensor_msgs/msg/CameraInfo")(
        header(capture.stamp_ns, frame), height, width, "plumb_bob", NO_DISTORTION, intrinsics, np.eye(3).ravel(),
        projection.ravel(), 0, 0, message_type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False))

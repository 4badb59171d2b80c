"""Check cameras: readable images of their calibration, a sensor like the one of the training, one trigger for all."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vexkd_model.config.camera import ImageConfig
from vexkd_model.findings import FAIL, OK, WARN, Finding
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_model.types import CameraImage
from vexkd_ros.doctor.observation import Heard, Observation
from vexkd_ros.inputs.calibration import read_calibration, undistorted_view
from vexkd_ros.inputs.errors import ImageError, TransformUnavailable
from vexkd_ros.inputs.images import stored_image

TOGETHER_S = 0.06  # the node's camera_tolerance
SQUARE = 1.05  # between the focal lengths in x and y: a CameraInfo of another shape of image differs by more
CENTRE = (0.25, 0.75)  # of the image: a principal point of a CameraInfo for another size lies outside
ANY_VIEW = ImageConfig.model_validate(
    {"width": 256, "height": 144, "zoom": 1.0, "augment": {"zoom": (1.0, 1.0), "rotation": 0.0, "flip": False}}
)


def check_camera(
    seen: Observation,
    images: Heard,
    infos: Heard,
    name: str,
    base: str,
    monitor: SensorMonitor | None,
    view: ImageConfig = ANY_VIEW,
) -> list[Finding]:
    """Check one camera. name: nuScenes' channel that the student knows it by. view: what it reads of an image."""
    calibrations = infos.messages()
    if not calibrations:  # all damaged, which is said of its topic
        return []
    info = calibrations[-1]
    findings, unreadable = [], {}
    sizes = set()
    for message in images.messages():
        try:
            stored = stored_image(message)
            calibration = read_calibration(info, stored.size)
            intrinsics = calibration.intrinsics
            pixels, image_from_stored = undistorted_view(stored, calibration, view)
        except ImageError as error:
            unreadable[str(error)] = None
            continue
        if stored.size not in sizes:
            sizes.add(stored.size)
            findings += _calibration(images.topic, info, stored.size, intrinsics, bool(len(calibration.distortion)))
        if monitor is not None:
            _show(seen, monitor, message, CameraImage(name, pixels, 0, intrinsics, image_from_stored, np.eye(4)), base)
    return [Finding(FAIL, images.topic, problem) for problem in unreadable] + findings + _frames(images, infos)


def check_together(images: Sequence[Heard]) -> list[Finding]:
    """Check that the images of each camera lie near those of the first one."""
    reference, *others = images
    findings = []
    for heard in others:
        stamps = np.unique(heard.stamps)
        # Where both were there: one that started later is another matter.
        first, last = stamps[0] - TOGETHER_S * 1e9, stamps[-1] + TOGETHER_S * 1e9
        common = [stamp for stamp in reference.stamps if first <= stamp <= last]
        if not common:
            findings.append(Finding(WARN, heard.topic, f"no image while {reference.topic} sent any: compare clocks"))
            continue
        apart = np.abs(np.subtract.outer(common, stamps)).min(axis=1) * 1e-9
        median = float(np.median(apart))
        if median > TOGETHER_S:
            findings.append(
                Finding(
                    WARN,
                    heard.topic,
                    f"its images lie {median * 1e3:.0f} ms from {reference.topic}'s: trigger them "
                    f"together, or raise camera_tolerance above {median:.2f}",
                )
            )
    if others and not findings:
        findings.append(Finding(OK, "cameras", f"images of {len(images)} cameras belong to one moment each"))
    return findings


def _calibration(
    topic: str, info: Any, size: tuple[int, int], intrinsics: np.ndarray, undistorts: bool
) -> list[Finding]:
    (width, height), text = size, f"{size[0]}×{size[1]} px"
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2] / width, intrinsics[1, 2] / height
    if not 1 / SQUARE < fx / fy < SQUARE:
        return [
            Finding(
                FAIL,
                topic,
                f"{text}, but its CameraInfo is of {info.width}×{info.height}, another shape: "
                "publish the CameraInfo of these images",
            )
        ]
    if not (CENTRE[0] < cx < CENTRE[1] and CENTRE[0] < cy < CENTRE[1]):
        return [
            Finding(
                WARN,
                topic,
                f"{text}, principal point at {cx:.0%}, {cy:.0%} of it by its CameraInfo: is k of "
                "this image, and not of a larger or cropped one?",
            )
        ]
    angle = np.degrees(2 * np.arctan(0.5 * width / fx))
    findings = [Finding(OK, topic, f"{text}, {angle:.0f}° wide by its CameraInfo")]
    if any(info.d):
        findings.append(
            Finding(
                OK,
                topic,
                f"distorted ({info.distortion_model}), undistorted by its CameraInfo"
                if undistorts
                else "rectified, for its CameraInfo's p is not its k",
            )
        )
    return findings


def _frames(images: Heard, infos: Heard) -> list[Finding]:
    of_images, of_infos = (heard.frames.most_common(1)[0][0] for heard in (images, infos))
    if of_images == of_infos:
        return []
    return [
        Finding(
            WARN,
            infos.topic,
            f"its frame_id is {of_infos}, the images' is {of_images}, which counts: correct the one that is wrong",
        )
    ]


def _show(seen: Observation, monitor: SensorMonitor, message: Any, image: CameraImage, base: str) -> None:
    stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    try:
        mount = seen.transforms.lookup(base, message.header.frame_id, stamp)
    except TransformUnavailable:  # said where frames are checked
        return
    monitor.see_camera(CameraImage(image.name, image.pixels, stamp, image.intrinsics, image.image_from_stored, mount))

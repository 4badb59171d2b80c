"""Camera images and BEV maps: where they belong, and as pictures inside the page, data URLs."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vexkd_model.data.images import StoredImage
from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.geometry.transforms import inverse
from vexkd_model.types import MAP_CLASSES, BevGrid
from vexkd_ros.bags.view.recording import IMAGES, Moment, RecordedPoses, Recording
from vexkd_ros.inputs.errors import ImageError
from vexkd_ros.inputs.images import stored_image

IMAGE_WIDTH = 640  # pixels; larger images are made smaller
SHOWN_ABOVE = 0.5  # a map class shows where its probability is at least this


@dataclass(frozen=True)
class PlacedImage:
    """Image of a moment, and where it was taken.

    name: of the camera, "cam_front". message: of either type of image. stored: the same, to be decoded. intrinsics:
    (3, 3), camera → pixels of the whole image; base_from_camera: (4, 4), base_link at the moment ← the camera when it
    looked. Both are None where CameraInfo or a static transform is missing.
    """

    name: str
    message: Any
    stored: StoredImage
    intrinsics: np.ndarray | None
    base_from_camera: np.ndarray | None


def camera_messages(moment: Moment) -> list[tuple[str, Any]]:
    """List (camera's name, image) of a moment, in front from left to right, then behind."""
    # sorted: where a camera's raw and compressed images are there, the compressed one wins
    images = {
        topic.removesuffix("/compressed").rpartition("/")[0].strip("/"): message
        for topic, message in sorted(moment.messages.items())
        if message.__msgtype__ in IMAGES
    }
    return sorted(images.items(), key=lambda item: _left_to_right(item[0]))


def camera_images(moment: Moment, recording: Recording, poses: RecordedPoses, notes: set[str]) -> list[PlacedImage]:
    """Collect the images of a moment with their places; `notes` says what was left out."""
    found = []
    for name, message in camera_messages(moment):
        try:
            stored = stored_image(message)
        except ImageError as error:
            notes.add(left_out(name, error))
            continue
        place = _place(name, message, stored, moment.stamp_ns, recording, poses)
        found.append(PlacedImage(name, message, stored, *place))
    return found


def left_out(name: str, error: ImageError) -> str:
    """Say that a camera's image cannot be shown, and why."""
    return f"/{name}: {error}; such pictures are left out"


def _place(
    name: str, message: Any, stored: StoredImage, stamp_ns: int, recording: Recording, poses: RecordedPoses
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    info, mount = recording.camera_info.get(f"/{name}/camera_info"), poses.mount(message.header.frame_id)
    if info is None or mount is None or not info.width or not info.height:
        return None, None
    taken = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    # a message of ROS 1 has K, one of ROS 2 has k
    k = np.reshape(info.k if hasattr(info, "k") else info.K, (3, 3))
    width, height = stored.size
    return np.diag([width / info.width, height / info.height, 1.0]) @ k, poses.moved(taken, stamp_ns) @ mount


def _left_to_right(name: str) -> tuple[bool, int, str]:
    side = 0 if "left" in name else 2 if "right" in name else 1
    return "back" in name, side, name


def map_labels(probabilities: np.ndarray) -> np.ndarray:
    """Draw all classes of a map (classes, Y, X) on one another: uint8 (Y, X), 0 for none, else 1 + the class."""
    labels = np.zeros(probabilities.shape[1:], np.uint8)
    for class_id, layer in enumerate(probabilities, 1):
        labels[layer >= SHOWN_ABOVE] = class_id
    return labels


def map_picture(probabilities: np.ndarray | None, grid: BevGrid | None) -> dict | None:
    """Draw all classes of a map in one picture, with its place [m]; rows run along −x, columns along −y.

    probabilities: (classes, Y, X), or None where there is no map.
    """
    if probabilities is None or grid is None:
        return None
    image = Image.fromarray(np.ascontiguousarray(map_labels(probabilities)[::-1, ::-1].T), "P")
    image.putpalette([255, 255, 255, *(channel for name in MAP_CLASSES for channel in MAP_COLOURS[name])])
    place = {"x_min": grid.x_min, "x_max": grid.x_max, "y_min": grid.y_min, "y_max": grid.y_max}
    return {"url": _data_url(image, "PNG"), **place}


def camera_pictures(moment: Moment, recording: Recording, poses: RecordedPoses, notes: set[str]) -> list[dict]:
    """Describe the images of a moment for the page; `notes` says what was left out."""
    found = []
    for camera in camera_images(moment, recording, poses, notes):
        try:
            found.append(_camera(camera))
        except ImageError as error:
            notes.add(left_out(camera.name, error))
    return found


def _camera(camera: PlacedImage) -> dict:
    """Describe a camera's picture. ImageError where it cannot be read.

    `projection`: (3, 4) row by row, base_link at the moment → the picture's pixels, None where that is not known.
    """
    width, height = camera.stored.size
    pixels = camera.stored.read(next((r for r in (8, 4, 2) if width >= r * IMAGE_WIDTH), 1))
    scale = min(1.0, IMAGE_WIDTH / width)
    size = round(width * scale), round(height * scale)
    url = _data_url(Image.fromarray(pixels).resize(size), "JPEG", quality=80)
    described = {"name": camera.name, "url": url, "width": size[0], "height": size[1], "projection": None}
    if camera.intrinsics is not None and camera.base_from_camera is not None:
        shrunk = np.diag([size[0] / width, size[1] / height, 1.0]) @ camera.intrinsics
        described["projection"] = (shrunk @ inverse(camera.base_from_camera)[:3]).round(4).ravel().tolist()
    return described


def _data_url(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"

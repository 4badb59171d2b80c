"""Camera images and BEV maps as pictures inside the page: data URLs, with their places."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.geometry.transforms import inverse
from vexkd_model.types import MAP_CLASSES, BevGrid
from vexkd_ros.bags.view.recording import IMAGES, Moment, RecordedPoses, Recording
from vexkd_ros.inputs.errors import ImageError
from vexkd_ros.inputs.images import stored_image

IMAGE_WIDTH = 640  # pixels; larger images are made smaller
SHOWN_ABOVE = 0.5  # a map class shows where its probability is at least this


def map_picture(probabilities: np.ndarray | None, grid: BevGrid | None) -> dict | None:
    """Draw all classes of a map in one picture, with its place [m]; rows run along −x, columns along −y.

    probabilities: (classes, Y, X), or None where there is no map.
    """
    if probabilities is None or grid is None:
        return None
    labels = np.zeros(probabilities.shape[1:], np.uint8)
    for class_id, layer in enumerate(probabilities, 1):
        labels[layer >= SHOWN_ABOVE] = class_id
    image = Image.fromarray(np.ascontiguousarray(labels[::-1, ::-1].T), "P")
    image.putpalette([255, 255, 255, *(channel for name in MAP_CLASSES for channel in MAP_COLOURS[name])])
    place = {"x_min": grid.x_min, "x_max": grid.x_max, "y_min": grid.y_min, "y_max": grid.y_max}
    return {"url": _data_url(image, "PNG"), **place}


def camera_pictures(moment: Moment, recording: Recording, poses: RecordedPoses, notes: set[str]) -> list[dict]:
    """Describe the images of a moment, in front from left to right, then behind; `notes` says what was left out."""
    # sorted: where a camera's raw and compressed images are there, the compressed one wins
    images = {
        topic.removesuffix("/compressed").rpartition("/")[0]: message
        for topic, message in sorted(moment.messages.items())
        if message.__msgtype__ in IMAGES
    }
    found = []
    for namespace, image in sorted(images.items(), key=lambda item: _left_to_right(item[0])):
        try:
            found.append(_camera(namespace, image, moment.stamp_ns, recording, poses))
        except ImageError as error:
            notes.add(f"{namespace}: {error}; such pictures are left out")
    return found


def _left_to_right(namespace: str) -> tuple[bool, int, str]:
    side = 0 if "left" in namespace else 2 if "right" in namespace else 1
    return "back" in namespace, side, namespace


def _camera(namespace: str, message: Any, stamp_ns: int, recording: Recording, poses: RecordedPoses) -> dict:
    """Describe a camera's picture. ImageError where it cannot be read.

    `projection`: (3, 4) row by row, base_link at the moment → the picture's pixels, None where that is not known.
    """
    stored = stored_image(message)
    pixels = stored.read(next((r for r in (8, 4, 2) if stored.size[0] >= r * IMAGE_WIDTH), 1))
    scale = min(1.0, IMAGE_WIDTH / stored.size[0])
    size = round(stored.size[0] * scale), round(stored.size[1] * scale)
    url = _data_url(Image.fromarray(pixels).resize(size), "JPEG", quality=80)
    camera = {"name": namespace.strip("/"), "url": url, "width": size[0], "height": size[1], "projection": None}
    info, mount = recording.camera_info.get(f"{namespace}/camera_info"), poses.mount(message.header.frame_id)
    if info is not None and mount is not None and info.width and info.height:
        taken = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        camera_from_base = inverse(mount) @ poses.moved(stamp_ns, taken)
        # a message of ROS 1 has K, one of ROS 2 has k
        k = np.reshape(info.k if hasattr(info, "k") else info.K, (3, 3))
        pixels_from_camera = np.diag([size[0] / info.width, size[1] / info.height, 1.0]) @ k
        camera["projection"] = (pixels_from_camera @ camera_from_base[:3]).round(4).ravel().tolist()
    return camera


def _data_url(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"

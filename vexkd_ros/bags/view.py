"""`bag_view`: shows bags in any browser as one HTML file, without ROS, a network or a GPU."""

import argparse
import base64
import io
import json
import math
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vexkd_model.command import make_parser, positive_int, run_command
from vexkd_model.errors import UserError
from vexkd_model.evaluation.matching import match_by_centre, within_range
from vexkd_model.figures.palette import DETECTION_COLOURS, MAP_COLOURS, Rgb
from vexkd_model.files import atomic_file
from vexkd_model.geometry.transforms import apply, inverse
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, Boxes
from vexkd_ros.bags.reading import bag_paths
from vexkd_ros.bags.view_recording import (
    GROUND_TRUTH,
    IMAGES,
    KEYFRAME,
    Moment,
    RecordedPoses,
    Recording,
    read_recording,
)
from vexkd_ros.inputs.detections import read_detections
from vexkd_ros.inputs.errors import CloudError, ImageError
from vexkd_ros.inputs.images import stored_image
from vexkd_ros.inputs.pointcloud import read_cloud

HELP = "Bags in a browser: one HTML file that needs neither ROS nor a network."
EXAMPLE = """example:
  vexkd-bag-view bags/scene-0103 out/demo/published --out view.html"""

NODE, POINTS, TF = "/student_node", "/lidar/points", "/tf"
MOMENTS = 100  # of about 0.3 MB each
SHOWN_POINTS = 15_000  # of a cloud, drawn at random
REACH_M = 80.0  # points further away are left out
IMAGE_WIDTH = 640  # pixels; larger images are made smaller
SHOWN_ABOVE = 0.5  # a map class shows where its probability is at least this


def write_view(
    path: Path, bags: Sequence[Path], node: str = NODE, points: str = POINTS, most: int = MOMENTS, tf: str = TF
) -> int:
    """Write the HTML file; return how many moments it shows. UserError where the bags hold nothing to see.

    bags: what a student published and the bags that it was given, in any order. node: of the student. points: topic of
    the clouds. most: moments, evenly chosen. tf: topic of the transforms; static ones are on tf + "_static".
    """
    bags = bag_paths(bags)
    recording = read_recording(bags, node, points, most, tf)
    poses = RecordedPoses(recording.transforms)
    frames = [_frame(moment, recording, poses, node, points) for moment in recording.moments]
    document = {
        "title": ", ".join(Path(bag).name for bag in bags),
        "frames": frames,
        "has_truth": any(frame["has_truth"] for frame in frames),
        "has_found": any(f"{node}/detections" in moment.messages for moment in recording.moments),
        "maps": [name for name in ("student", "true") if any(name in frame["maps"] for frame in frames)],
        "class_colours": {name: _hexadecimal(colour) for name, colour in DETECTION_COLOURS.items()},
        "map_colours": {name: _hexadecimal(colour) for name, colour in MAP_COLOURS.items()},
    }
    # A "</script>" in a name would end the data.
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = files("vexkd_ros.bags").joinpath("view.html").read_text(encoding="utf-8")
    with atomic_file(path) as partial:
        partial.write_text(template.replace("@DATA@", text), encoding="utf-8")
    return len(frames)


def _frame(moment: Moment, recording: Recording, poses: RecordedPoses, node: str, points: str) -> dict:
    """Describe a moment for the page, everything in base_link at the moment's time."""
    messages = moment.messages
    truth, found = _boxes(messages, node)
    first = recording.moments[0].stamp_ns
    return {
        "seconds": (moment.stamp_ns - first) * 1e-9,
        "token": messages[KEYFRAME].frame_id if KEYFRAME in messages else "",
        "points": _points(messages.get(points), poses),
        "truth": truth,
        "found": found,
        "has_truth": GROUND_TRUTH in messages,
        "maps": {
            name: picture
            for name, prefix in (("student", node), ("true", GROUND_TRUTH))
            if (picture := _map([messages.get(f"{prefix}/map/{c}") for c in MAP_CLASSES]))
        },
        "cameras": [
            camera
            for namespace, image in _images(messages, node)
            if (camera := _camera(namespace, image, moment.stamp_ns, recording, poses))
        ],
    }


def _boxes(messages: dict[str, Any], node: str) -> tuple[list[dict], list[dict]]:
    """List annotations with the score of what hit them, and detections with whether they hit, in the metrics' range.

    A better detection chooses first, so that a threshold on the score changes nobody else's match.
    """
    truth, _ = _read(messages.get(GROUND_TRUTH))
    found, scores = _read(messages.get(f"{node}/detections"), messages.get(f"{node}/markers"))
    matches = match_by_centre(found, scores, truth)
    hit_score = {int(j): float(scores[i]) for i, j in matches.hits}
    hits = set(matches.hits[:, 0].tolist())
    return (
        [
            {"values": values, "class": name, "hit_score": hit_score.get(j, -1.0)}
            for j, (values, name) in enumerate(_listed(truth))
        ],
        [
            {"values": values, "class": name, "score": float(scores[i]), "hit": i in hits}
            for i, (values, name) in enumerate(_listed(found))
        ],
    )


def _read(detections: Any, markers: Any = None) -> tuple[Boxes, np.ndarray]:
    if detections is None:
        return Boxes(np.empty((0, 9), np.float32), np.empty(0, np.int64)), np.empty(0, np.float32)
    boxes, scores, unknown = read_detections(detections)
    if markers is not None and not unknown:
        for marker in markers.markers:
            if marker.ns == "velocity" and marker.id < len(boxes):
                start, end = marker.points
                boxes.values[marker.id, 7:9] = end.x - start.x, end.y - start.y
    near = within_range(boxes)
    return Boxes(boxes.values[near], boxes.labels[near]), scores[near]


def _listed(boxes: Boxes) -> list[tuple[list[float | None], str]]:
    """List values, rounded to millimetres, None for what is unknown, and class."""
    return [
        ([round(value, 3) if math.isfinite(value) else None for value in values], DETECTION_CLASSES[label])
        for values, label in zip(boxes.values.tolist(), boxes.labels.tolist(), strict=True)
    ]


def _points(message: Any, poses: RecordedPoses) -> str:
    """Encode x, y, z [cm] of some of a cloud's points as little-endian int16, in base64."""
    base_from_sensor = None if message is None else poses.mount(message.header.frame_id)
    if message is None or base_from_sensor is None:
        return ""
    try:
        points = apply(base_from_sensor, read_cloud(message).points[:, :3])
    except CloudError as error:
        raise UserError(f"a cloud of {message.header.frame_id}: {error}") from None
    points = points[np.abs(points).max(axis=1) < REACH_M] if len(points) else points
    if len(points) > SHOWN_POINTS:
        points = points[np.random.default_rng(0).choice(len(points), SHOWN_POINTS, replace=False)]
    return base64.b64encode(np.rint(points * 100).astype("<i2").tobytes()).decode()


def _map(grids: list[Any]) -> dict | None:
    """Draw all classes of a map in one picture, with its place [m]; rows run along −x, columns along −y."""
    if any(grid is None for grid in grids):
        return None
    info = grids[0].info
    labels = np.zeros((info.height, info.width), np.uint8)
    for class_id, grid in enumerate(grids, 1):
        percent = np.asarray(grid.data, np.int8).reshape(info.height, info.width)
        labels[percent >= 100 * SHOWN_ABOVE] = class_id
    image = Image.fromarray(np.ascontiguousarray(labels[::-1, ::-1].T), "P")
    image.putpalette([255, 255, 255, *(channel for name in MAP_CLASSES for channel in MAP_COLOURS[name])])
    x, y = info.origin.position.x, info.origin.position.y
    return {
        "url": _data_url(image, "PNG"),
        "x_min": x,
        "x_max": x + info.width * info.resolution,
        "y_min": y,
        "y_max": y + info.height * info.resolution,
    }


def _images(messages: dict[str, Any], node: str) -> list[tuple[str, Any]]:
    """List (namespace of a camera, its image), in front from left to right, then behind."""
    # sorted: where a camera's raw and compressed images are there, the compressed one wins
    images = {
        topic.removesuffix("/compressed").rpartition("/")[0]: message
        for topic, message in sorted(messages.items())
        if message.__msgtype__ in IMAGES and not topic.startswith(f"{node}/")
    }
    return sorted(images.items(), key=lambda item: _left_to_right(item[0]))


def _left_to_right(namespace: str) -> tuple[bool, int, str]:
    side = 0 if "left" in namespace else 2 if "right" in namespace else 1
    return "back" in namespace, side, namespace


def _camera(namespace: str, message: Any, stamp_ns: int, recording: Recording, poses: RecordedPoses) -> dict | None:
    """Describe a camera's picture; None where it cannot be read.

    `projection`: (3, 4) row by row, base_link at the moment → the picture's pixels, None where that is not known.
    """
    try:
        stored = stored_image(message)
        pixels = stored.read(next((r for r in (8, 4, 2) if stored.size[0] >= r * IMAGE_WIDTH), 1))
    except ImageError as error:
        print(f"{namespace}: {error}; this picture is left out", file=sys.stderr)
        return None
    scale = min(1.0, IMAGE_WIDTH / stored.size[0])
    size = round(stored.size[0] * scale), round(stored.size[1] * scale)
    url = _data_url(Image.fromarray(pixels).resize(size), "JPEG", quality=80)
    camera = {"name": namespace.strip("/"), "url": url, "width": size[0], "height": size[1], "projection": None}
    info, mount = recording.camera_info.get(f"{namespace}/camera_info"), poses.mount(message.header.frame_id)
    if info is not None and mount is not None and info.width and info.height:
        taken = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        camera_from_base = inverse(mount) @ poses.moved(stamp_ns, taken)
        pixels_from_camera = np.diag([size[0] / info.width, size[1] / info.height, 1.0]) @ info.k.reshape(3, 3)
        camera["projection"] = (pixels_from_camera @ camera_from_base[:3]).round(4).ravel().tolist()
    return camera


def _data_url(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _hexadecimal(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("vexkd-bag-view", HELP, EXAMPLE)
    parser.add_argument(
        "bags", type=Path, nargs="+", metavar="BAG", help="bag folders: what a student published, and what it was given"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="page to write")
    parser.add_argument("--node", default=NODE, help=f"name of the student node (default: {NODE})")
    parser.add_argument("--points", default=POINTS, metavar="TOPIC", help=f"of the point clouds (default: {POINTS})")
    parser.add_argument(
        "--tf",
        default=TF,
        metavar="TOPIC",
        help=f"of the transforms, beside TOPIC_static; /robot1/tf where a bag holds several robots (default: {TF})",
    )
    parser.add_argument(
        "--moments",
        type=positive_int,
        default=MOMENTS,
        metavar="N",
        help=f"show at most so many, evenly chosen (default: {MOMENTS})",
    )

    def command(arguments: argparse.Namespace) -> None:
        count = write_view(
            arguments.out, arguments.bags, arguments.node, arguments.points, arguments.moments, arguments.tf
        )
        size = arguments.out.stat().st_size / 1e6
        print(f"{arguments.out}: {count} moments, {size:.1f} MB; open it with a browser")

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())

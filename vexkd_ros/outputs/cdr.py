"""Detections and markers straight to CDR, the bytes that DDS carries, without a Python object for every number.

Source: OMG DDS-RTPS, plain CDR (XCDR1) in little-endian order; numbers are aligned to their size, counted from behind
the four bytes of the encapsulation. The layouts are those of vision_msgs/Detection3DArray and
visualization_msgs/MarkerArray; `agrees` tells whether the installed messages are laid out like that.
"""

import math
import struct
from collections.abc import Callable

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from vexkd_model.figures.palette import DETECTION_COLOURS
from vexkd_model.geometry.covariance import pose_covariances
from vexkd_model.types import DETECTION_CLASSES, DEVIATION_FIELDS, Boxes, Prediction
from vexkd_ros.outputs.markers import ARROW_SIZE

LITTLE_ENDIAN = b"\0\1\0\0"
POSE, COVARIANCE, SIZE = 7, 36, 3  # float64 numbers
RGB = np.array([DETECTION_COLOURS[name] for name in DETECTION_CLASSES], np.float64) / 255


class CdrWriter:
    """Writer of one message: pieces of bytes, each padded to its alignment."""

    def __init__(self) -> None:
        self._pieces, self._size = [LITTLE_ENDIAN], 0

    def put(self, piece: bytes, alignment: int = 4) -> None:
        """Append a piece, after zeros up to a multiple of `alignment`."""
        if padding := -self._size % alignment:
            self._pieces.append(bytes(padding))
        self._pieces.append(piece)
        self._size += padding + len(piece)

    def message(self) -> bytes:
        return b"".join(self._pieces)


def detections_cdr(prediction: Prediction, header: Header) -> bytes:
    """Serialise what `detections_message` makes."""
    own_header = _joined(_header(header))
    before = [_joined(_header(header), _number(1), _string(name)) for name in DETECTION_CLASSES]
    numbers = np.zeros((len(prediction.boxes), 1 + POSE + COVARIANCE + POSE + SIZE))
    pose = _poses(prediction.boxes)
    numbers[:, 0] = prediction.scores
    numbers[:, 1 : 1 + POSE] = pose
    numbers[:, 1 + POSE : 1 + POSE + COVARIANCE] = pose_covariances(prediction).reshape(-1, COVARIANCE)
    numbers[:, -POSE - SIZE : -SIZE] = pose
    numbers[:, -SIZE:] = prediction.boxes.values[:, 3:6]
    rows = _rows(numbers)
    writer = CdrWriter()
    writer.put(own_header)
    writer.put(_number(len(rows)))
    for i, (row, label) in enumerate(zip(rows, prediction.boxes.labels.tolist(), strict=True)):
        writer.put(before[label])
        writer.put(row, 8)
        writer.put(_string(str(i)))
    return writer.message()


def markers_cdr(prediction: Prediction, header: Header) -> bytes:
    """Serialise what `markers_message` makes."""
    boxes = prediction.boxes
    cubes, arrows, ends = (np.zeros((len(boxes), count)) for count in (POSE + SIZE, POSE + SIZE, 6))
    cubes[:, :POSE] = _poses(boxes)
    cubes[:, POSE:] = boxes.values[:, 3:6]
    arrows[:, 6] = 1.0  # no rotation
    arrows[:, POSE:] = ARROW_SIZE.x, ARROW_SIZE.y, ARROW_SIZE.z
    velocity = boxes.values[:, 7:9].astype(np.float64)
    velocity[~np.isfinite(velocity).all(axis=1)] = 0.0
    ends[:, :3] = ends[:, 3:] = boxes.values[:, :3]
    ends[:, 3:5] += velocity
    cube_colours, arrow_colours = (np.empty((len(boxes), 4), "<f4") for _ in range(2))
    cube_colours[:, :3] = arrow_colours[:, :3] = RGB[boxes.labels]
    cube_colours[:, 3], arrow_colours[:, 3] = 0.25 + 0.5 * prediction.scores.astype(np.float64), 1.0

    place, rest = _joined(_header(header)), _rest_of_marker()
    names = [_joined(_header(header), _string(name)) for name in ("boxes", "velocity")]
    nothing = bytes(12)  # no lifetime, not locked to its frame
    writer = CdrWriter()
    writer.put(_number(1 + 2 * len(boxes)))
    writer.put(_joined(place, _string(""), struct.pack("<3i", 0, 0, Marker.DELETEALL)))
    writer.put(struct.pack("<10d", 0, 0, 0, 0, 0, 0, 1, 0, 0, 0), 8)
    writer.put(bytes(16) + nothing + _number(0) + rest)
    columns = zip(_rows(cubes), _rows(cube_colours), _rows(arrows), _rows(arrow_colours), _rows(ends), strict=True)
    for i, (cube, cube_colour, arrow, arrow_colour, points) in enumerate(columns):
        writer.put(names[0])
        writer.put(struct.pack("<3i", i, Marker.CUBE, Marker.ADD))
        writer.put(cube, 8)
        writer.put(cube_colour + nothing + _number(0) + rest)
        writer.put(names[1])
        writer.put(struct.pack("<3i", i, Marker.ARROW, Marker.ADD))
        writer.put(arrow, 8)
        writer.put(arrow_colour + nothing + _number(2) + points + rest)
    return writer.message()


def agrees(serialise: Callable[[Prediction, Header], bytes], message: Callable[[Prediction, Header], object]) -> bool:
    """Tell whether rclpy reads from `serialise` what `message` makes, with the messages that are installed.

    Compared are contents and length: padding is zero here, and whatever the memory held in rclpy's.
    """
    random = np.random.default_rng(0)
    boxes = Boxes(random.normal(size=(12, 9)).astype(np.float32), random.integers(0, len(DETECTION_CLASSES), 12))
    deviations = random.random((12, len(DEVIATION_FIELDS)), np.float32)
    example = Prediction(boxes, random.random(12, np.float32), None, None, 0, deviations=deviations)
    return is_message(serialise(example, Header(frame_id="base_link")), message(example, Header(frame_id="base_link")))


def is_message(data: bytes, message: object) -> bool:
    """Tell whether the bytes are the message, of the same length and contents."""
    expected = serialize_message(message)
    return len(data) == len(expected) and (
        deserialize_message(data, type(message)) == deserialize_message(expected, type(message))
    )


def _poses(boxes: Boxes) -> np.ndarray:
    """Poses float64 (M, 7) of the boxes' centres: position, then quaternion (x, y, z, w)."""
    poses = np.zeros((len(boxes), POSE))
    poses[:, :3] = boxes.values[:, :3]
    half = (boxes.values[:, 6].astype(np.float64) / 2).tolist()
    # Not NumPy's sine: it may differ in the last bit from the one that the messages are made with.
    poses[:, 5], poses[:, 6] = [math.sin(angle) for angle in half], [math.cos(angle) for angle in half]
    return poses


def _rows(numbers: np.ndarray) -> list[bytes]:
    """Bytes of each row, little-endian."""
    data, width = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes(), numbers[:1].nbytes
    return [data[i : i + width] for i in range(0, len(data), width)] if width else []


def _rest_of_marker() -> bytes:
    """Fields of a Marker behind its points, all empty; they begin at a multiple of four."""
    return _joined(
        _number(0),
        _string(""),  # colours, texture_resource
        struct.pack("<iI", 0, 0),
        _string(""),
        _string(""),
        _number(0),  # texture: header, format, data
        _number(0),
        _string(""),
        _string(""),  # uv_coordinates, text, mesh_resource
        _string(""),
        _number(0),
        b"\0",
    )  # mesh_file, mesh_use_embedded_materials


def _header(header: Header) -> bytes:
    return struct.pack("<iI", header.stamp.sec, header.stamp.nanosec) + _string(header.frame_id)


def _string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return _number(len(data)) + data


def _number(value: int) -> bytes:
    return struct.pack("<I", value)


def _joined(*pieces: bytes) -> bytes:
    """Join pieces that are aligned to four."""
    return b"".join(piece + bytes(-len(piece) % 4) for piece in pieces[:-1]) + pieces[-1]

"""Mutated messages of every input type, taken in as the nodes do, without DDS."""

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose

from vexkd_model.config import load_config
from vexkd_model.evaluation.matching import match_by_centre, within_range
from vexkd_model.types import Boxes
from vexkd_ros.inputs.assembly import InputSettings
from vexkd_ros.inputs.camera_assembler import CameraAssembler
from vexkd_ros.inputs.camera_sync import ReceivedImage
from vexkd_ros.inputs.detections import read_detections
from vexkd_ros.inputs.errors import InputError
from vexkd_ros.inputs.lidar_assembler import LidarAssembler
from vexkd_ros.inputs.reception import stamp_ns, take_in
from vexkd_ros.inputs.stamp_pairs import StampPairs
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.outputs.comparison_markers import comparison_markers

MODELS = Path(__file__).parents[2] / "config" / "model"
NOON = 1_533_000_000
NUMBERS = [0, 1, 2, 3, 5, 7, 8, 16, 255, 2**16, 2**24, 2**30, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]
HEAD = 160  # bytes, in which most of what describes a message lies


def header(frame: str) -> Header:
    result = Header(frame_id=frame)
    result.stamp.sec = NOON
    return result


def _cloud() -> PointCloud2:
    points = np.random.default_rng(0).uniform(-30, 30, (40, 4)).astype(np.float32)
    fields = [
        PointField(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate(("x", "y", "z", "intensity"))
    ]
    return PointCloud2(
        header=header("lidar"),
        height=2,
        width=20,
        fields=fields,
        point_step=16,
        row_step=320,
        data=array("B", points.tobytes()),
        is_dense=True,
    )


def _image(encoding: str, channels: float, size: tuple[int, int] = (16, 12)) -> Image:
    width, height = size
    data = np.random.default_rng(1).integers(0, 256, int(width * height * channels), np.uint8)
    return Image(
        header=header("front"),
        height=height,
        width=width,
        encoding=encoding,
        step=int(width * (channels if channels >= 1 and encoding != "nv12" else 1)),
        data=array("B", data.tobytes()),
    )


def _compressed(suffix: str, form: str, channels: int = 3) -> CompressedImage:
    pixels = np.random.default_rng(2).integers(0, 256, (12, 16, channels), np.uint8)
    return CompressedImage(
        header=header("front"), format=form, data=array("B", cv2.imencode(suffix, pixels)[1].tobytes())
    )


def _info() -> CameraInfo:
    return CameraInfo(
        header=header("front"),
        width=16,
        height=12,
        distortion_model="plumb_bob",
        d=[-0.3, 0.1, 0.0, 0.0, 0.0],
        k=[10.0, 0, 8, 0, 10, 6, 0, 0, 1],
    )


def _transforms() -> TFMessage:
    message = TFMessage()
    for parent, child in (("odom", "base_link"), ("base_link", "wheel")):
        stamped = TransformStamped(header=header(parent), child_frame_id=child)
        stamped.transform.translation, stamped.transform.rotation = Vector3(x=1.0, z=1.0), Quaternion(w=1.0)
        message.transforms.append(stamped)
    return message


def _detections() -> Detection3DArray:
    message = Detection3DArray(header=header("base_link"))
    for name, x in (("car", 5.0), ("pedestrian", 9.0)):
        result = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name, score=0.5))
        detection = Detection3D(header=header("base_link"), results=[result])
        detection.bbox.center.position.x, detection.bbox.size.x = x, 4.0
        message.detections.append(detection)
    return message


class Vehicle:
    """Reception of a LiDAR student, a camera student and the comparison, each by the nodes' own code.

    take: of each input, function of bytes. refused: reasons so far. An exception from `take` is an escape; so is a
    reason that says "could not be used", for the guard's last net has caught it.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []
        self._transforms = TransformBuffer()
        self._lidar_config = load_config(MODELS / "lidar_pillar_small.yaml").lidar
        self._camera_config = load_config(MODELS / "bevdet4d_depth_small.yaml").camera
        assert self._lidar_config and self._camera_config
        self._cameras = len(self._camera_config.images.cameras)
        self._renew()
        everything: dict[str, tuple[Any, Callable[[Any], None]]] = {
            "cloud": (_cloud(), self._on_cloud),
            "image": (_image("rgb8", 3), self._on_image),
            "image 16 bits": (_image("bayer_rggb16", 2), self._on_image),
            "image planar": (_image("nv12", 1.5), self._on_image),
            "jpeg": (_compressed(".jpg", "rgb8; jpeg compressed bgr8"), self._on_image),
            "png": (_compressed(".png", "bayer_rggb8; png compressed ", 1), self._on_image),
            "camera_info": (_info(), self._on_info),
            "reference": (header(""), self._on_reference),
            "tf": (_transforms(), lambda message: self._on_transforms(message, False)),
            "tf_static": (_transforms(), lambda message: self._on_transforms(message, True)),
            "detections": (_detections(), lambda message: self._on_detections(self._pairs.add_other, message)),
            "ground_truth": (_detections(), lambda message: self._on_detections(self._pairs.add_reference, message)),
        }
        self.seeds = {name: serialize_message(message) for name, (message, _) in everything.items()}
        self._ways = {name: (type(message), receive) for name, (message, receive) in everything.items()}

    def take(self, name: str, data: bytes) -> None:
        """Take in the bytes of a message of the input `name`."""
        kind, receive = self._ways[name]
        take_in(data, kind, f"/{name}", receive, self._refuse)

    def close(self) -> None:
        """End the threads that decode."""
        self._cameras_in.close()

    def _renew(self) -> None:
        settings = InputSettings(use_reference=True, camera_deadline=0.0, threads=1)
        self._lidar = LidarAssembler(self._lidar_config, settings, self._transforms)
        self._cameras_in = CameraAssembler(self._camera_config, ["front"] * self._cameras, settings, self._transforms)
        self._pairs: StampPairs[Any] = StampPairs(10**8)
        self._cameras_in.add_info(0, _info())
        self._now = NOON * 10**9
        self._reset_transforms()

    def _reset_transforms(self) -> None:
        self._transforms.clear()
        for parent, child in (("base_link", "lidar"), ("base_link", "front"), ("odom", "base_link")):
            self._transforms.insert(parent, child, NOON * 10**9, (1, 0, 1), (1, 0, 0, 0), static=True)

    def _refuse(self, kind: str, text: str) -> None:
        assert "could not be used" not in kind, text
        self.refused.append(kind)
        serialize_message(DiagnosticStatus(message=text))  # as /diagnostics says it

    def _on_cloud(self, message: PointCloud2) -> None:
        self._lidar.frame(self._lidar.add(message, stamp_ns(message.header.stamp)), deadline=0.0)

    def _on_image(self, message: Image | CompressedImage) -> None:
        stamp_ns(message.header.stamp)
        self._now += 10**9  # whatever its stamp: a late image would not be looked at
        assert not self._cameras_in.add_image(0, ReceivedImage(message, self._now, 0.0))
        self._cameras_in.refer(self._now, 0.0)
        images = self._cameras_in.get()
        assert images
        for reason in self._cameras_in.frame(images, deadline=0.0).reasons:
            self._refuse(*reason)

    def _on_info(self, message: CameraInfo) -> None:
        self._cameras_in.add_info(0, message)
        try:
            self._on_image(_image("rgb8", 3))
        finally:
            self._cameras_in.add_info(0, _info())

    def _on_reference(self, message: Header) -> None:
        self._cameras_in.refer(stamp_ns(message.stamp), 0.0)
        images = self._cameras_in.get()
        assert images
        self._cameras_in.frame(images, deadline=0.0)

    def _on_transforms(self, message: TFMessage, static: bool) -> None:
        for problem in self._transforms.insert_message(message, static):
            self._refuse(problem, problem)
        try:
            self._transforms.lookup("odom", "lidar", NOON * 10**9)
        except InputError as error:
            self._refuse(error.kind, str(error))
        for conflict in self._transforms.conflicts():
            self._refuse(*conflict)
        self._reset_transforms()

    def _on_detections(self, add: Callable[[int, Any], list], message: Detection3DArray) -> None:
        for truth_message, found_message in add(stamp_ns(message.header.stamp), message):
            (truth, _), (found, scores) = self._near(truth_message), self._near(found_message)
            markers = comparison_markers(
                found, scores, truth, match_by_centre(found, scores, truth, 2.0), found_message.header
            )
            serialize_message(markers)

    @staticmethod
    def _near(message: Detection3DArray) -> tuple[Boxes, np.ndarray]:
        boxes, scores, _ = read_detections(message)
        near = within_range(boxes)
        return Boxes(boxes.values[near], boxes.labels[near]), scores[near]


def mutated(seed: bytes, edits: list[tuple[str, int, int]]) -> bytes:
    """Apply edits (kind, place, value) to a serialised message; places beyond its end wrap around."""
    data = bytearray(seed)
    for kind, place, value in edits:
        at = 4 + place % max(len(data) - 4, 1)  # the first four bytes say how it is serialised
        if kind == "byte":
            data[at : at + 1] = bytes([value % 256])
        elif kind == "number":
            at -= at % 4
            data[at : at + 4] = NUMBERS[value % len(NUMBERS)].to_bytes(4, "little")
        elif kind == "cut":
            del data[at:]
        elif kind == "remove":
            del data[at : at + 1 + value % 8]
        elif kind == "repeat":
            data[at:at] = data[at : at + 1 + value % 64]
    return bytes(data)


KINDS = ("byte", "number", "number", "number", "cut", "remove", "repeat")


def random_edits(rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Draw one to six edits, most of them where a message describes itself."""
    return [
        (
            KINDS[rng.integers(len(KINDS))],
            int(rng.integers(HEAD if rng.random() < 0.7 else 10**6)),
            int(rng.integers(2**31)),
        )
        for _ in range(rng.integers(1, 7))
    ]

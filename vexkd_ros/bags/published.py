"""Outputs of a student node, read back from a bag as the Predictions they were made from. Needs no ROS."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_model.types import BOX_FIELDS, DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes, Prediction
from vexkd_ros.bags.reading import Bag, header_stamp_ns, open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.inputs.detections import read_detections

HEADER = 4  # bytes of CDR's encapsulation, before the header that a message begins with
MARKERS_HEADER = HEADER + 4  # in a MarkerArray, the number of markers comes before the first marker's header
NOTHING = Boxes(np.empty((0, len(BOX_FIELDS)), np.float32), np.empty(0, np.int64)), np.empty(0, np.float32)
STAGES = ("wait", "convert", "infer", "publish", "total")


@dataclass(frozen=True)
class Published:
    """Outputs of a student node in a bag.

    predictions: by input stamp [ns], of the stamps asked for that are complete: detections, markers and all maps, as
    far as the student has them at all. detects: whether it has detections. latency: seconds of every published frame,
    by stage; empty where the node's latencies were not recorded.
    """

    predictions: dict[int, Prediction]
    latency: dict[str, list[float]]
    detects: bool


def read_published(bag: Path, node: str, stamps: Collection[int]) -> Published:
    """Read the topics of `node` ("/student_node"); UserError names a topic that the bag lacks."""
    detections, markers = f"{node}/detections", f"{node}/markers"
    maps = {f"{node}/map/{name}": i for i, name in enumerate(MAP_CLASSES)}
    found: dict[str, dict[int, object]] = defaultdict(dict)
    latency: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with open_bag(bag) as reader:
        expected = _expected_topics(reader, [detections, markers], list(maps), bag)
        wanted = [
            connection
            for connection in reader.connections
            if connection.topic in (detections, markers, f"{node}/debug/latency", *maps)
        ]
        total = sum(connection.msgcount for connection in wanted)
        for connection, _, data in progress(reader.messages(wanted), f"read {Path(bag).name}", total, "messages"):
            topic = connection.topic
            stamp = header_stamp_ns(data, MARKERS_HEADER if topic == markers else HEADER)
            if topic == f"{node}/debug/latency":
                _add_latency(latency, bag_typestore().deserialize_cdr(data, connection.msgtype))
            elif stamp in stamps:
                found[topic][stamp] = bag_typestore().deserialize_cdr(data, connection.msgtype)
    complete = set(stamps).intersection(*(found[topic] for topic in expected))
    return Published(
        {
            stamp: _prediction(
                stamp,
                found[detections].get(stamp),
                found[markers].get(stamp),
                [found[topic][stamp] for topic in maps if topic in expected],
            )
            for stamp in sorted(complete)
        },
        latency if latency["total"] else {},
        detections in expected,
    )


def _expected_topics(reader: Bag, boxes: list[str], maps: list[str], bag: Path) -> list[str]:
    """List what each keyframe must have; a student may lack one of its heads, and then all topics of it."""
    there = {connection.topic for connection in reader.connections}
    expected = [topic for head in (boxes, maps) if there.intersection(head) for topic in head]
    missing = sorted(set(expected or boxes) - there)
    if missing:
        raise UserError(f"{bag}: holds no {missing[0]}; record with `bag_recorder --namespace` of the student node")
    return expected


def _add_latency(latency: dict[str, list[float]], message: Any) -> None:
    values = {pair.key: pair.value for pair in message.status[0].values}
    for stage in STAGES:
        latency[stage].append(float(values[f"{stage}_ms"]) / 1000)


def _prediction(stamp: int, detections: Any, markers: Any, grids: list[Any]) -> Prediction:
    boxes, scores, unknown = read_boxes(detections, markers) if detections else (*NOTHING, [])
    if unknown:
        raise UserError(f"detections: class {unknown[0]!r} is none of {', '.join(DETECTION_CLASSES)}")
    return Prediction(boxes, scores, *(read_map(grids) if grids else (None, None)), stamp)


def read_boxes(detections: Any, markers: Any = None) -> tuple[Boxes, np.ndarray, list[str]]:
    """Read detections as `read_detections` does, with the velocities that the markers of the same numbers tell.

    Velocities stay unknown (NaN) without markers, and where a detection of a foreign class shifts the numbers.
    """
    boxes, scores, unknown = read_detections(detections)
    if markers is not None and not unknown:
        for marker in markers.markers:
            if marker.ns == "velocity" and marker.id < len(boxes):
                start, end = marker.points
                boxes.values[marker.id, -2:] = end.x - start.x, end.y - start.y
    return boxes, scores, unknown


def read_map(grids: Sequence[Any]) -> tuple[np.ndarray, BevGrid]:
    """Read probabilities, float32 (classes, Y, X), and their grid from one OccupancyGrid a class."""
    return np.stack([_probabilities(grid) for grid in grids]), _grid(grids[0])


def _probabilities(grid: Any) -> np.ndarray:
    """Read float32 (Y, X) of an OccupancyGrid; unknown cells (−1) hold no object."""
    percent = np.asarray(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    return percent.clip(0).astype(np.float32) / np.float32(100)


def _grid(grid: Any) -> BevGrid:
    # resolution is float32 in the message; a cell is given in whole tenths of a millimetre
    info, cell = grid.info, round(grid.info.resolution, 4)
    origin = info.origin.position
    return BevGrid(origin.x, origin.x + info.width * cell, origin.y, origin.y + info.height * cell, cell)

"""Tracks of a track node, read back from a bag. Needs no ROS."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.evaluation.tracking import Tracks
from vexkd_ros.bags.published import HEADER, MARKERS_HEADER
from vexkd_ros.bags.reading import header_stamp_ns, open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.inputs.detections import read_detections


def read_tracks(bag: Path, node: str, stamps: Collection[int]) -> dict[int, Tracks]:
    """Read ~/tracks and ~/markers of `node` ("/track_node"), by stamp [ns], where both are there; without tokens.

    UserError names a topic that the bag lacks.
    """
    tracks, markers = f"{node}/tracks", f"{node}/markers"
    found: dict[str, dict[int, Any]] = {tracks: {}, markers: {}}
    with open_bag(bag) as reader:
        wanted = [connection for connection in reader.connections if connection.topic in found]
        missing = sorted(found.keys() - {connection.topic for connection in wanted})
        if missing:
            raise UserError(f"{bag}: holds no {missing[0]}; record it with `bag_recorder {tracks} {markers}`, too")
        for connection, _, data in reader.messages(wanted):
            stamp = header_stamp_ns(data, MARKERS_HEADER if connection.topic == markers else HEADER)
            if stamp in stamps:
                found[connection.topic][stamp] = bag_typestore().deserialize_cdr(data, connection.msgtype)
    return {
        stamp: _tracks(message, found[markers][stamp])
        for stamp, message in found[tracks].items()
        if stamp in found[markers]
    }


def _tracks(message: Any, markers: Any) -> Tracks:
    """Make tracks of one moment, with the velocities that the markers of the same numbers tell."""
    boxes, scores, unknown = read_detections(message)
    if unknown:
        raise UserError(f"tracks: class {unknown[0]!r} is none of a student's; record a track_node")
    numbers = np.array([int(detection.id) for detection in message.detections], np.int64)
    place_of = {number: i for i, number in enumerate(numbers.tolist())}
    for marker in markers.markers:
        if marker.ns == "velocity" and marker.id in place_of:
            start, end = marker.points
            boxes.values[place_of[marker.id], -2:] = end.x - start.x, end.y - start.y
    return Tracks("", boxes, scores, numbers)

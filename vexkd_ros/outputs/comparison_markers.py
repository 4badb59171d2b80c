"""Conversion of detections beside annotated boxes to visualization_msgs/MarkerArray: hits, false alarms, misses."""

import numpy as np
from geometry_msgs.msg import Point, Pose, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vexkd_model.evaluation.matching import Matches
from vexkd_model.types import DETECTION_CLASSES, Boxes
from vexkd_ros.outputs.detections import box_pose

# Okabe and Ito's green, vermilion and blue, which colour-blind eyes tell apart.
HIT = (0.0, 0.62, 0.45)
FALSE_ALARM = (0.84, 0.37, 0.0)
MISS = (0.0, 0.45, 0.70)
WHITE = (1.0, 1.0, 1.0)
TEXT_HEIGHT_M = 0.8
SUMMARY_HEIGHT_M = 1.6
SUMMARY_AT = Point(x=0.0, y=0.0, z=5.0)  # above the vehicle


def comparison_markers(found: Boxes, scores: np.ndarray, truth: Boxes, matches: Matches, header: Header) -> MarkerArray:
    """Make a DELETEALL, then cubes and texts in the namespaces hits, false_alarms, misses, and a summary's text.

    A hit's cube is the detection; a thin line leads to the centre of the box that it hit, and the text says the class,
    the score and how far apart the centres are. A miss's cube is the annotated box.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for (i, j), distance in zip(matches.hits, matches.distances, strict=True):
        text = f"{_name(found, i)} {scores[i]:.2f}, {distance:.1f} m off"
        markers += _box(header, "hits", i, found.values[i], HIT, text)
        markers.append(_line(header, i, found.values[i], truth.values[j]))
    for i in matches.false_alarms:
        markers += _box(
            header, "false_alarms", i, found.values[i], FALSE_ALARM, f"no {_name(found, i)} {scores[i]:.2f}"
        )
    for j in matches.misses:
        markers += _box(header, "misses", j, truth.values[j], MISS, f"missed {_name(truth, j)}")
    summary = f"{len(matches.hits)} hits, {len(matches.false_alarms)} false alarms, {len(matches.misses)} misses"
    markers.append(_text(header, "summary", 0, SUMMARY_AT, SUMMARY_HEIGHT_M, WHITE, summary))
    return MarkerArray(markers=markers)


def _name(boxes: Boxes, index: int) -> str:
    return DETECTION_CLASSES[boxes.labels[index]]


def _box(header: Header, namespace: str, index: int, row: np.ndarray, colour: tuple, text: str) -> list[Marker]:
    """Make a cube (id 3 · index) and the text above it (id 3 · index + 1)."""
    values = row.tolist()
    above = Point(x=values[0], y=values[1], z=values[2] + values[5] / 2 + TEXT_HEIGHT_M)
    cube = Marker(
        header=header,
        ns=namespace,
        id=3 * int(index),
        type=Marker.CUBE,
        pose=box_pose(values),
        scale=Vector3(x=values[3], y=values[4], z=values[5]),
        color=_rgba(colour, 0.45),
    )
    return [cube, _text(header, namespace, 3 * int(index) + 1, above, TEXT_HEIGHT_M, colour, text)]


def _text(
    header: Header, namespace: str, number: int, position: Point, height: float, colour: tuple, text: str
) -> Marker:
    pose = Pose(position=position)
    pose.orientation.w = 1.0
    return Marker(
        header=header,
        ns=namespace,
        id=number,
        type=Marker.TEXT_VIEW_FACING,
        pose=pose,
        scale=Vector3(z=height),
        color=_rgba(colour, 1.0),
        text=text,
    )


def _line(header: Header, index: int, found: np.ndarray, truth: np.ndarray) -> Marker:
    """Make the line from a detection's centre to its annotation's (id 3 · index + 2)."""
    ends = [Point(x=x, y=y, z=z) for x, y, z in (found[:3].tolist(), truth[:3].tolist())]
    pose = Pose()
    pose.orientation.w = 1.0
    return Marker(
        header=header,
        ns="hits",
        id=3 * int(index) + 2,
        type=Marker.LINE_LIST,
        pose=pose,
        scale=Vector3(x=0.08),
        points=ends,
        color=_rgba(HIT, 1.0),
    )


def _rgba(colour: tuple, alpha: float) -> ColorRGBA:
    red, green, blue = colour
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)

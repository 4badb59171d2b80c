"""Conversion of a Prediction to visualization_msgs/MarkerArray for RViz."""

import math

from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vexkd_model.figures.palette import DETECTION_COLOURS
from vexkd_model.types import DETECTION_CLASSES, Prediction
from vexkd_ros.outputs.detections import box_pose

ARROW_SIZE = Vector3(x=0.15, y=0.4, z=0.5)  # shaft diameter, head diameter, head length [m]


def markers_message(prediction: Prediction, header: Header) -> MarkerArray:
    """Make a DELETEALL, then for detection i a cube (ns "boxes", id i) and an arrow (ns "velocity", id i).

    The arrow runs from the box's centre to where its velocity takes it within one second; unknown velocity is an
    arrow of no length. The stronger the score, the less transparent the cube.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    colours = [DETECTION_COLOURS[name] for name in DETECTION_CLASSES]
    boxes = zip(
        prediction.boxes.values.tolist(), prediction.boxes.labels.tolist(), prediction.scores.tolist(), strict=True
    )
    for index, (values, label, score) in enumerate(boxes):
        red, green, blue = (channel / 255 for channel in colours[label])
        markers.append(
            Marker(
                header=header,
                ns="boxes",
                id=index,
                type=Marker.CUBE,
                pose=box_pose(values),
                scale=Vector3(x=values[3], y=values[4], z=values[5]),
                color=ColorRGBA(r=red, g=green, b=blue, a=0.25 + 0.5 * score),
            )
        )
        markers.append(
            Marker(
                header=header,
                ns="velocity",
                id=index,
                type=Marker.ARROW,
                scale=ARROW_SIZE,
                points=_velocity_arrow(values),
                color=ColorRGBA(r=red, g=green, b=blue, a=1.0),
            )
        )
    return MarkerArray(markers=markers)


def _velocity_arrow(values: list[float]) -> list[Point]:
    x, y, z, vx, vy = values[0], values[1], values[2], values[7], values[8]
    if not (math.isfinite(vx) and math.isfinite(vy)):
        vx = vy = 0.0
    return [Point(x=x, y=y, z=z), Point(x=x + vx, y=y + vy, z=z)]

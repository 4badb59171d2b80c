"""Conversion of tracks to vision_msgs/Detection3DArray and to markers."""

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, PoseWithCovariance, Vector3
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker, MarkerArray

from vexkd_model.figures.palette import DETECTION_COLOURS
from vexkd_model.tracking.online import TrackedObject
from vexkd_model.types import DETECTION_CLASSES
from vexkd_ros.outputs.detections import box_pose
from vexkd_ros.outputs.markers import ARROW_SIZE

TEXT_M, TRAIL_WIDTH_M = 0.8, 0.1


def tracks_message(objects: Sequence[TrackedObject], header: Header) -> Detection3DArray:
    """Make one Detection3D an object; its id is the number of its track. Velocities travel in the markers."""
    return Detection3DArray(header=header, detections=[_detection(one, header) for one in objects])


def _detection(one: TrackedObject, header: Header) -> Detection3D:
    pose, covariance = box_pose(one.box.tolist()), np.zeros((6, 6))
    covariance[np.ix_([0, 1, 2, 5], [0, 1, 2, 5])] = one.covariance
    result = ObjectHypothesisWithPose(
        hypothesis=ObjectHypothesis(class_id=DETECTION_CLASSES[one.label], score=one.score),
        pose=PoseWithCovariance(pose=pose, covariance=covariance.ravel()),
    )
    box = BoundingBox3D(center=pose, size=Vector3(**dict(zip("xyz", one.box[3:6].tolist(), strict=True))))
    return Detection3D(header=header, results=[result], bbox=box, id=str(one.number))


def track_markers(objects: Sequence[TrackedObject], header: Header) -> MarkerArray:
    """Make a DELETEALL, then for each track, whose number is the id, its box, velocity, trail and number.

    Namespaces: boxes, velocity (the way of one second), trails, numbers.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for one in objects:
        red, green, blue = (channel / 255 for channel in DETECTION_COLOURS[DETECTION_CLASSES[one.label]])
        x, y, z, length, width, height, _, vx, vy = one.box.tolist()
        colour = ColorRGBA(r=red, g=green, b=blue, a=1.0)
        common = {"header": header, "id": one.number}
        trail = [Point(x=px, y=py, z=pz) for px, py, pz in one.trail.tolist()]
        markers += [
            Marker(
                **common,
                ns="boxes",
                type=Marker.CUBE,
                pose=box_pose(one.box.tolist()),
                scale=Vector3(x=length, y=width, z=height),
                color=ColorRGBA(r=red, g=green, b=blue, a=0.5),
            ),
            Marker(
                **common,
                ns="velocity",
                type=Marker.ARROW,
                scale=ARROW_SIZE,
                points=[Point(x=x, y=y, z=z), Point(x=x + vx, y=y + vy, z=z)],
                color=colour,
            ),
            Marker(
                **common,
                ns="trails",
                type=Marker.LINE_STRIP,
                scale=Vector3(x=TRAIL_WIDTH_M),
                points=trail if len(trail) > 1 else trail * 2,
                color=colour,
            ),
            _number(one, header, Point(x=x, y=y, z=z + height / 2 + TEXT_M)),
        ]
    return MarkerArray(markers=markers)


def _number(one: TrackedObject, header: Header, place: Point) -> Marker:
    marker = Marker(header=header, id=one.number, ns="numbers", type=Marker.TEXT_VIEW_FACING, text=str(one.number))
    marker.pose.position, marker.pose.orientation.w = place, 1.0
    marker.scale.z, marker.color = TEXT_M, ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return marker

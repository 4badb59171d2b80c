"""Annotations at keyframes: as detections, as markers, and the sample token that a score needs."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from vexkd_model.figures.palette import DETECTION_COLOURS
from vexkd_ros.bags.scene.messages import (
    ARROW,
    CUBE,
    UNKNOWN_COVARIANCE,
    delete_all,
    header,
    marker,
    point,
    pose,
    vector,
)
from vexkd_ros.bags.scene.tables import Annotation, Keyframe, Pose
from vexkd_ros.bags.scene.topics import GROUND_TRUTH, GROUND_TRUTH_MARKERS, KEYFRAME, Due
from vexkd_ros.bags.typestore import message_type

ALPHA = 0.35
ARROW_SIZE = (0.15, 0.4, 0.5)  # shaft diameter, head diameter, head length [m]


def annotation_messages(keyframes: tuple[Keyframe, ...]) -> Iterator[Due]:
    """Yield /keyframe, /ground_truth and /ground_truth/markers at the LiDAR's stamp of every keyframe."""
    for keyframe in keyframes:
        stamp = keyframe.stamp_ns
        yield Due(stamp, KEYFRAME, partial(header, stamp, keyframe.token))
        yield Due(stamp, GROUND_TRUTH, partial(detections, keyframe))
        yield Due(stamp, GROUND_TRUTH_MARKERS, partial(ground_truth_markers, keyframe))


def detections(keyframe: Keyframe) -> object:
    """Make a Detection3DArray of the ten detection classes, in base_link; id is the instance token.

    An annotation's attribute has no field of its own: it is a second hypothesis, of score 0. The first one's score is
    1 for a true box, less for one that a model made.
    """
    at, base_from_odom = header(keyframe.stamp_ns, "base_link"), keyframe.odom_from_base.inverse
    return message_type(GROUND_TRUTH.msgtype)(
        at,
        [_detection(at, base_from_odom @ annotation.odom_from_box, annotation) for annotation in keyframe.annotations],
    )


def _detection(at: object, base_from_box: Pose, annotation: Annotation) -> object:
    """Make a vision_msgs/Detection3D."""
    centre = pose(base_from_box)
    hypotheses = [(annotation.name, annotation.score), *([(annotation.attribute, 0.0)] if annotation.attribute else [])]
    results = [
        message_type("vision_msgs/msg/ObjectHypothesisWithPose")(
            message_type("vision_msgs/msg/ObjectHypothesis")(name, score),
            message_type("geometry_msgs/msg/PoseWithCovariance")(centre, UNKNOWN_COVARIANCE),
        )
        for name, score in hypotheses
    ]
    box = message_type("vision_msgs/msg/BoundingBox3D")(centre, vector(annotation.size))
    return message_type("vision_msgs/msg/Detection3D")(at, results, box, annotation.instance)


def ground_truth_markers(keyframe: Keyframe) -> object:
    """Make markers like a student's.

    A DELETEALL, then for annotation i a cube (ns "boxes") and where its velocity takes its centre within a second
    (ns "velocity"); an unknown velocity is an arrow of no length.
    """
    at, base_from_odom = header(keyframe.stamp_ns, "base_link"), keyframe.odom_from_base.inverse
    turn, markers = base_from_odom.matrix[:3, :3], [delete_all(at)]
    for i, annotation in enumerate(keyframe.annotations):
        base_from_box, colour = base_from_odom @ annotation.odom_from_box, DETECTION_COLOURS[annotation.name]
        moved = turn @ annotation.velocity
        centre = np.array(base_from_box.translation)
        ends = [point(centre), point(centre + (moved if math.isfinite(moved.sum()) else 0.0))]
        markers.append(marker(at, "boxes", i, CUBE, annotation.size, colour, ALPHA, base_from=base_from_box))
        markers.append(marker(at, "velocity", i, ARROW, ARROW_SIZE, colour, 1.0, points=ends))
    return message_type(GROUND_TRUTH_MARKERS.msgtype)(markers)

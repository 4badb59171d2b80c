"""Conversion of a Prediction to autoware_perception_msgs/DetectedObjects, where that package is installed."""

import math
from importlib import import_module
from types import ModuleType

import numpy as np
from geometry_msgs.msg import PoseWithCovariance, Twist, TwistWithCovariance, Vector3
from std_msgs.msg import Header

from vexkd_model.geometry.covariance import pose_covariances, twist_covariances
from vexkd_model.types import DETECTION_CLASSES, Prediction
from vexkd_ros.outputs.detections import box_pose

# Our class → constant of ObjectClassification; what Autoware has no word for is UNKNOWN.
LABELS = {
    "car": "CAR",
    "truck": "TRUCK",
    "construction_vehicle": "TRUCK",
    "bus": "BUS",
    "trailer": "TRAILER",
    "barrier": "UNKNOWN",
    "motorcycle": "MOTORCYCLE",
    "bicycle": "BICYCLE",
    "pedestrian": "PEDESTRIAN",
    "traffic_cone": "UNKNOWN",
}
# A barrier looks the same from both sides, a cone from all; the others' headings are whole.
ORIENTATION = {"barrier": "SIGN_UNKNOWN", "traffic_cone": "UNAVAILABLE"}


def detected_objects_type() -> type | None:
    """Return the class DetectedObjects; None where autoware_perception_msgs is not installed."""
    try:
        return _messages().DetectedObjects
    except ImportError:
        return None


def detected_objects_message(prediction: Prediction, header: Header) -> object:
    """Make one DetectedObject a box, best first. Only where `detected_objects_type` is not None.

    existence_probability is the score: calibrated where the student's card says how, else a confidence. Each object has
    one class, with probability 1. The shape is a BOUNDING_BOX: length, width, height [m]. The twist is over ground, in
    the object's own frame as Autoware reads it: x along the heading, y to the left [m/s]; has_twist is false where
    velocity is unknown. Covariances are those of the class at the object's distance; where the card states
    none they are zero, has_position_covariance and has_twist_covariance false.
    """
    boxes = zip(
        prediction.boxes.values.tolist(),
        prediction.boxes.labels.tolist(),
        prediction.scores.tolist(),
        pose_covariances(prediction).reshape(-1, 36),
        twist_covariances(prediction).reshape(-1, 36),
        strict=True,
    )
    msg = _messages()
    return msg.DetectedObjects(
        header=header,
        objects=[
            msg.DetectedObject(
                existence_probability=score,
                kinematics=_kinematics(msg, values, DETECTION_CLASSES[label], of_pose, of_twist),
                classification=[_classification(msg, DETECTION_CLASSES[label])],
                shape=msg.Shape(type=msg.Shape.BOUNDING_BOX, dimensions=Vector3(x=values[3], y=values[4], z=values[5])),
            )
            for values, label, score, of_pose, of_twist in boxes
        ],
    )


def _classification(msg: ModuleType, name: str) -> object:
    return msg.ObjectClassification(label=getattr(msg.ObjectClassification, LABELS[name]), probability=1.0)


def _kinematics(msg: ModuleType, values: list[float], name: str, of_pose: np.ndarray, of_twist: np.ndarray) -> object:
    yaw, vx, vy = values[6:9]
    moves = math.isfinite(vx) and math.isfinite(vy)
    cosine, sine = math.cos(yaw), math.sin(yaw)
    linear = Vector3(x=cosine * vx + sine * vy, y=cosine * vy - sine * vx) if moves else Vector3()
    kind = msg.DetectedObjectKinematics
    return kind(
        pose_with_covariance=PoseWithCovariance(pose=box_pose(values), covariance=of_pose),
        has_position_covariance=bool(of_pose.any()),
        orientation_availability=getattr(kind, ORIENTATION.get(name, "AVAILABLE")),
        twist_with_covariance=TwistWithCovariance(twist=Twist(linear=linear), covariance=of_twist),
        has_twist=moves,
        has_twist_covariance=moves and bool(of_twist.any()),
    )


def _messages() -> ModuleType:
    return import_module("autoware_perception_msgs.msg")

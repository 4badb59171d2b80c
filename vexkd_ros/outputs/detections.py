"""Conversion of a Prediction to vision_msgs/Detection3DArray."""

import math

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion, Vector3
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose

from vexkd_model.geometry.covariance import pose_covariances
from vexkd_model.types import DETECTION_CLASSES, Prediction


def detections_message(prediction: Prediction, header: Header) -> Detection3DArray:
    """Make one Detection3D a box, best first, id = its number: class_id is the class, score in [0, 1].

    The covariance is that of its class at its distance, zero where the student's card states none. Velocity has no
    field here; see `velocities_message`.
    """
    message = Detection3DArray(header=header)
    boxes = zip(
        prediction.boxes.values.tolist(),
        prediction.boxes.labels.tolist(),
        prediction.scores.tolist(),
        pose_covariances(prediction).reshape(-1, 36),
        strict=True,
    )
    message.detections = [_detection(index, *box, header) for index, box in enumerate(boxes)]
    return message


def box_pose(values: list[float]) -> Pose:
    """Return the pose of a box's centre, from its row of BOX_FIELDS."""
    x, y, z, yaw = values[0], values[1], values[2], values[6]
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(z=math.sin(yaw / 2), w=math.cos(yaw / 2)))


def _detection(
    index: int, values: list[float], label: int, score: float, covariance: np.ndarray, header: Header
) -> Detection3D:
    pose = box_pose(values)
    result = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=DETECTION_CLASSES[label], score=score))
    result.pose = PoseWithCovariance(pose=pose, covariance=covariance)
    size = Vector3(x=values[3], y=values[4], z=values[5])
    return Detection3D(header=header, results=[result], bbox=BoundingBox3D(center=pose, size=size), id=str(index))

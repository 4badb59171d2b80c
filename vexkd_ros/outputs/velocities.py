"""Conversion of a Prediction to the velocities of its detections, as a sensor_msgs/PointCloud2."""

from array import array

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from vexkd_model.types import Prediction

NAMES = ("x", "y", "z", "vx", "vy")
COLUMNS = [0, 1, 2, 7, 8]  # of the same in a box
FIELDS = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate(NAMES)]


def velocities_message(prediction: Prediction, header: Header) -> PointCloud2:
    """Make one point a detection, in the order of `detections_message`: its centre [m] and its velocity [m/s].

    vx and vy are over ground, along the axes of the header's frame; NaN where the velocity is unknown.
    """
    numbers = prediction.boxes.values[:, COLUMNS].astype("<f4")
    return PointCloud2(
        header=header,
        height=1,
        width=len(numbers),
        fields=FIELDS,
        is_bigendian=False,
        point_step=4 * len(NAMES),
        row_step=numbers.nbytes,
        data=array("B", numbers.tobytes()),
        is_dense=bool(np.isfinite(numbers).all()),
    )

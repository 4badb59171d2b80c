"""Assumptions of the filter for each class: how objects move, and how well detectors see them.

Accelerations are what road users do in traffic; noise is that of published LiDAR detectors within 40 m of the vehicle.
"""

from vexkd_model.tracking.kalman import Motion, Noise
from vexkd_model.types import DETECTION_CLASSES

_VEHICLE = Motion(acceleration=1.5, turning=0.3, speed=10.0)
_MOTION = {
    "car": _VEHICLE,
    "truck": _VEHICLE,
    "construction_vehicle": _VEHICLE,
    "bus": _VEHICLE,
    "trailer": _VEHICLE,
    "motorcycle": Motion(acceleration=2.0, turning=0.5, speed=10.0),
    "bicycle": Motion(acceleration=1.0, turning=0.5, speed=5.0),
    "pedestrian": Motion(acceleration=0.5, turning=1.0, speed=1.5, turn=0.5),
    "barrier": Motion(acceleration=0.0, turning=0.0, speed=0.0, turn=0.0, heave=0.0),
    "traffic_cone": Motion(acceleration=0.0, turning=0.0, speed=0.0, turn=0.0, heave=0.0),
}
_LARGE = Noise(position=0.6, height=0.2, yaw=0.15, velocity=1.0)
_SMALL = Noise(position=0.3, height=0.15, yaw=0.4, velocity=0.5)
_NOISE = {
    "car": Noise(position=0.3, height=0.15, yaw=0.15, velocity=1.0),
    "truck": _LARGE,
    "construction_vehicle": _LARGE,
    "bus": _LARGE,
    "trailer": _LARGE,
    "motorcycle": Noise(position=0.3, height=0.15, yaw=0.25, velocity=1.0),
    "bicycle": Noise(position=0.3, height=0.15, yaw=0.25, velocity=0.7),
    "pedestrian": _SMALL,
    "barrier": Noise(position=0.3, height=0.15, yaw=0.2, velocity=0.5),
    "traffic_cone": _SMALL,
}
# Centres of two objects of a class are hardly ever nearer to each other than this [m].
_APART_M = {
    "car": 1.5,
    "truck": 2.0,
    "construction_vehicle": 2.0,
    "bus": 2.0,
    "trailer": 2.0,
    "motorcycle": 0.8,
    "bicycle": 0.8,
    "pedestrian": 0.4,
    "barrier": 1.0,
    "traffic_cone": 0.6,
}
# In the order of DETECTION_CLASSES.
APART_M = tuple(_APART_M[name] for name in DETECTION_CLASSES)
MOTION = tuple(_MOTION[name] for name in DETECTION_CLASSES)
NOISE = tuple(_NOISE[name] for name in DETECTION_CLASSES)
STILL = Motion(acceleration=0.0, turning=0.0, speed=0.0, turn=0.0, heave=0.0)

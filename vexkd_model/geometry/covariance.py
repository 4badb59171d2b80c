"""Covariance matrices of detections, as messages carry them, from the deviations of a Prediction."""

import numpy as np

from vexkd_model.types import Prediction

X, Y, Z, YAW = 0, 1, 2, 5  # rows of a pose: x, y, z, then rotations about x, y and z


def pose_covariances(prediction: Prediction) -> np.ndarray:
    """Compute covariances float64 (M, 6, 6) of x, y, z [m²] and rotations about x, y, z [rad²], in base_link.

    Zero where deviations are unknown, and for roll and pitch, which no student predicts.
    """
    covariance = np.zeros((len(prediction.boxes), 6, 6))
    if prediction.deviations is None:
        return covariance
    radial, tangential, height, heading = _variances(prediction.deviations)[:, :4].T
    sight = np.arctan2(prediction.boxes.values[:, 1], prediction.boxes.values[:, 0]).astype(np.float64)
    cos, sin = np.cos(sight), np.sin(sight)
    covariance[:, X, X] = radial * cos**2 + tangential * sin**2
    covariance[:, Y, Y] = radial * sin**2 + tangential * cos**2
    covariance[:, X, Y] = covariance[:, Y, X] = (radial - tangential) * cos * sin
    covariance[:, Z, Z], covariance[:, YAW, YAW] = height, heading
    return covariance


def twist_covariances(prediction: Prediction) -> np.ndarray:
    """Compute covariances float64 (M, 6, 6) of velocities [m²/s²] along and across each box's heading; else zero."""
    covariance = np.zeros((len(prediction.boxes), 6, 6))
    if prediction.deviations is not None:
        covariance[:, X, X], covariance[:, Y, Y] = _variances(prediction.deviations)[:, 4:].T
    return covariance


def _variances(deviations: np.ndarray) -> np.ndarray:
    return np.nan_to_num(deviations.astype(np.float64) ** 2)

"""Association of detections with tracks, by class and distance of centres."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def associate(
    expected: np.ndarray, labels: np.ndarray, reach: np.ndarray, found: np.ndarray, found_labels: np.ndarray
) -> list[tuple[int, int]]:
    """Match T tracks with M detections of the same class by the distances of their centres; return the pairs.

    expected: (T, 2), centres of the tracks at the time of the detections [m], in a frame that is fixed to the world,
    which compensates the vehicle's own motion. found: (M, 2). labels: (T,), found_labels: (M,). reach: (T,), distance
    that no match of a track exceeds [m]; leaving a track and a detection unmatched costs as much as a match at it, so
    that one object that vanishes does not shift all others along a row (Hungarian algorithm, squared distances).
    """
    distances = np.linalg.norm(expected[:, None] - found[None], axis=2)
    possible = (labels[:, None] == found_labels[None]) & (distances <= reach[:, None])
    cost = np.where(possible, (distances / reach[:, None]) ** 2 - 1, 0.0)
    tracks, detections = linear_sum_assignment(cost)
    return [(int(i), int(j)) for i, j in zip(tracks, detections, strict=True) if possible[i, j]]

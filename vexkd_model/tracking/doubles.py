"""Removal of objects that were detected or tracked twice: two of a class nearer to each other than bodies can be."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vexkd_model.tracking.classes import APART_M

if TYPE_CHECKING:
    from vexkd_model.tracking.smoothing import SmoothTrack

SHARE = 0.5  # of the moments of the weaker track


def single_detections(boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of detections (M, 9) of one moment that are no double of a better one, in their order."""
    return single_places(boxes[:, :2], labels, scores)


def single_places(places: np.ndarray, labels: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Indices of objects at x and y (M, 2) that are near none of their class that is worth more, in their order.

    Of two that are worth the same, the first stays.
    """
    close = _close(places, labels)
    kept: list[int] = []
    for i in np.argsort(-worth, kind="stable"):
        if not close[i, kept].any():
            kept.append(int(i))
    return np.array(sorted(kept), int)


def single_tracks(tracks: Sequence["SmoothTrack"]) -> list["SmoothTrack"]:
    """Leave out each track that accompanies a better one of its class half of the time."""
    counts: dict[tuple[int, int], int] = defaultdict(int)
    moments = defaultdict(list)
    for i, track in enumerate(tracks):
        for k in range(track.first, track.first + len(track.boxes)):
            moments[k].append(i)
    for k, there in moments.items():
        places = np.array([tracks[i].boxes[k - tracks[i].first][:2] for i in there])
        for a, b in zip(*np.nonzero(_close(places, np.array([tracks[i].label for i in there]))), strict=True):
            counts[there[a], there[b]] += 1
    kept: list[int] = []
    for i in sorted(range(len(tracks)), key=lambda i: -tracks[i].scores.sum()):
        if all(counts[i, j] < SHARE * len(tracks[i].boxes) for j in kept):
            kept.append(i)
    return [tracks[i] for i in sorted(kept)]


def _close(places: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mask, bool (M, M), of pairs of one class nearer than APART_M."""
    away = np.linalg.norm(places[:, None] - places[None], axis=2)
    close = (away < np.array(APART_M)[labels][:, None]) & (labels[:, None] == labels[None])
    np.fill_diagonal(close, False)
    return close

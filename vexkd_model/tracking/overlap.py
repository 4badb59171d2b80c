"""Suppression of tracks that stand where better ones stand: one object that was detected as two, or as two classes."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import shapely

from vexkd_model.geometry.boxes import corners_bev
from vexkd_model.tracking.smoothing import SmoothTrack

COVERED = 0.4  # of the smaller footprint
SHARE = 0.5  # of the moments of a track


def without_overlap(tracks: Sequence[SmoothTrack]) -> list[SmoothTrack]:
    """Drop each track that a better one covers half of the time; two bodies are never in one place."""
    covered = _moments_covered(tracks)
    kept: list[int] = []
    for i in sorted(range(len(tracks)), key=lambda i: -tracks[i].score):
        if all(covered[i, j] < SHARE * len(tracks[i].boxes) for j in kept):
            kept.append(i)
    return [tracks[i] for i in sorted(kept)]


def _moments_covered(tracks: Sequence[SmoothTrack]) -> dict[tuple[int, int], int]:
    """Number of moments in which the footprints of tracks i and j overlap by COVERED, by (i, j) and (j, i)."""
    counts: dict[tuple[int, int], int] = defaultdict(int)
    there = defaultdict(list)
    for i, track in enumerate(tracks):
        for k in range(len(track.boxes)):
            there[track.first + k].append(i)
    for moment, present in there.items():
        boxes = np.array([tracks[i].boxes[moment - tracks[i].first] for i in present])
        shapes = shapely.polygons(corners_bev(boxes))
        a, b = shapely.STRtree(shapes).query(shapes, predicate="intersects")
        a, b = a[a < b], b[a < b]
        area = shapely.area(shapely.intersection(shapes[a], shapes[b]))
        smaller = np.minimum(shapely.area(shapes[a]), shapely.area(shapes[b]))
        for i, j in zip(a[area > COVERED * smaller], b[area > COVERED * smaller], strict=True):
            counts[present[i], present[j]] += 1
            counts[present[j], present[i]] += 1
    return counts

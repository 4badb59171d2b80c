"""Online tracking of a student's detections: boxes of one moment after the other → objects with numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vexkd_model.geometry.boxes import transform_boxes
from vexkd_model.geometry.transforms import apply, inverse
from vexkd_model.tracking.doubles import single_detections
from vexkd_model.tracking.kalman import YAW, X, Y, Z
from vexkd_model.tracking.tracker import Track, Tracker, is_backwards
from vexkd_model.types import Boxes

RECENT = 20  # sightings that decide about an object's size, and which of its ends is in front
TRAIL = 50  # sightings of a trail, and all that is kept
LEAST_SIGHTINGS = 2


@dataclass(frozen=True)
class TrackedObject:
    """Object of one moment, in the frame of its detection.

    box: (9,) of BOX_FIELDS, filtered, of the median size of its recent detections. covariance: of x, y, z and yaw
    (4, 4). trail: (N, 3), where it was, oldest first.
    """

    number: int
    label: int
    score: float
    box: np.ndarray
    covariance: np.ndarray
    trail: np.ndarray


class OnlineTracker:
    """Tracker of detections in a frame that moves with the vehicle; numbers go on when time jumps back."""

    def __init__(self) -> None:
        self._tracker, self._newest_ns = Tracker(), -1

    def step(
        self,
        stamp_ns: int,
        boxes: Boxes,
        scores: np.ndarray,
        fixed_from_frame: np.ndarray,
        score_threshold: float = 0.0,
        least_sightings: int = LEAST_SIGHTINGS,
    ) -> list[TrackedObject]:
        """Take the detections of a moment; return those objects of them that were seen `least_sightings` times.

        fixed_from_frame: float64 (4, 4), from the detections' frame to one that stays with the world.
        """
        # A bag that loops, or the same moment twice: what was followed is of another time.
        if stamp_ns <= self._newest_ns:
            self._tracker.clear()
        self._newest_ns = stamp_ns
        kept = np.flatnonzero(scores >= score_threshold)
        kept = kept[single_detections(boxes.values[kept], boxes.labels[kept], scores[kept])]
        in_world = transform_boxes(fixed_from_frame, boxes.values[kept])
        tracks = self._tracker.step(stamp_ns, in_world, boxes.labels[kept], scores[kept])
        self._tracker.ended.clear()
        for track in tracks:  # a node lives for days
            del track.sightings[:-TRAIL]
        shown = [track for track in tracks if len(track.sightings) >= least_sightings]
        return tracked_objects(shown, inverse(fixed_from_frame))


def tracked_objects(tracks: Sequence[Track], frame_from_fixed: np.ndarray) -> list[TrackedObject]:
    """Take the tracks of a moment into the frame of its detections."""
    turn = np.eye(4)
    turn[:3, :3] = frame_from_fixed[:3, :3]
    in_world = np.empty((len(tracks), 9))
    for row, track in zip(in_world, tracks, strict=True):
        recent = track.sightings[-RECENT:]
        row[:3], row[6:] = np.split(track.sightings[-1].state.mean[:6], [3])
        row[3:6] = np.median([sighting.box[3:6] for sighting in recent], axis=0)
        if is_backwards([sighting.state.mean[YAW] for sighting in recent], recent):
            row[6] += np.pi
    objects = []
    for track, box in zip(tracks, transform_boxes(frame_from_fixed, in_world), strict=True):
        last = track.sightings[-1]
        covariance = last.state.covariance[np.ix_([X, Y, Z, YAW], [X, Y, Z, YAW])]
        trail = np.array([sighting.state.mean[:3] for sighting in track.sightings[-TRAIL:]])
        objects.append(
            TrackedObject(
                track.number, track.label, last.score, box, turn @ covariance @ turn.T, apply(frame_from_fixed, trail)
            )
        )
    return objects

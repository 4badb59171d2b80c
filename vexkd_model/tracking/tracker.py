"""Online tracker: boxes of one moment after the other → the tracks that they belong to.

All boxes are (M, 9) in the order of `types.BOX_FIELDS`, in one frame that is fixed to the world, and stamps are integer
nanoseconds. The tracker looks back alone; `smoothing` also uses what comes later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vexkd_model.tracking.association import associate
from vexkd_model.tracking.classes import MOTION, NOISE
from vexkd_model.tracking.doubles import single_places
from vexkd_model.tracking.kalman import State, X, Y, begin, predict_all, update

LONGEST_GAP_S = 1.6  # three keyframes of nuScenes: a track that was seen longer ago has ended
REACH_SIGMAS = 3.0
REACH_M = (1.0, 6.0)  # least and greatest distance of a match


@dataclass(frozen=True)
class Sighting:
    """Detection (9,) that belongs to a track, and the filter's state with it."""

    stamp_ns: int
    box: np.ndarray
    score: float
    state: State


@dataclass
class Track:
    """Object that was seen at least once. number: never given twice. sightings: in the order of time."""

    number: int
    label: int
    sightings: list[Sighting] = field(default_factory=list)

    def see(self, stamp_ns: int, box: np.ndarray, score: float, expected: State | None) -> None:
        """Add a detection; expected: the filter's state just before it, None at the first."""
        motion, noise = MOTION[self.label], NOISE[self.label]
        if expected is None:
            state = begin(box, motion, noise)
        else:
            state = update(expected, box, noise.after((stamp_ns - self.sightings[-1].stamp_ns) * 1e-9))
        self.sightings.append(Sighting(stamp_ns, box, score, state))


class Tracker:
    """Tracks of all objects, fed moment by moment. ended: collects tracks that have not been seen for long."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.ended: list[Track] = []
        self._number = 0

    def clear(self) -> None:
        """Forget all tracks; numbers go on."""
        self.tracks, self.ended = [], []

    def step(self, stamp_ns: int, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> list[Track]:
        """Take the detections of a moment, later than the ones before; return the track of each."""
        self._end(stamp_ns)
        means, covariances = self._single(self._expected(stamp_ns))
        of_tracks = np.array([track.label for track in self.tracks], int)
        pairs = associate(means[:, [X, Y]], of_tracks, _reach(covariances, of_tracks), boxes[:, :2], labels)
        known = {detection: (self.tracks[i], State(means[i], covariances[i])) for i, detection in pairs}
        found = []
        for i, (box, label, score) in enumerate(zip(boxes, labels, scores, strict=True)):
            track, expected = known.get(i) or (self._new(int(label)), None)
            track.see(stamp_ns, np.asarray(box, np.float64), float(score), expected)
            found.append(track)
        return found

    def _expected(self, stamp_ns: int) -> State:
        """States of all tracks at a later moment, in one."""
        last = [track.sightings[-1] for track in self.tracks]
        seconds = [(stamp_ns - sighting.stamp_ns) * 1e-9 for sighting in last]
        return predict_all([one.state for one in last], seconds, [MOTION[track.label] for track in self.tracks])

    def _single(self, expected: State) -> State:
        """End each track that is where one of its class with more sightings is; return the others' states.

        Two tracks of one object would take turns with its detections, and neither would ever end.
        """
        places, sightings = expected.mean[:, [X, Y]], np.array([len(track.sightings) for track in self.tracks], int)
        kept = single_places(places, np.array([track.label for track in self.tracks], int), sightings)
        self.ended += [track for i, track in enumerate(self.tracks) if i not in kept]
        self.tracks = [self.tracks[i] for i in kept]
        return State(expected.mean[kept], expected.covariance[kept])

    def _end(self, stamp_ns: int) -> None:
        for track in list(self.tracks):
            if (stamp_ns - track.sightings[-1].stamp_ns) * 1e-9 > LONGEST_GAP_S:
                self.tracks.remove(track)
                self.ended.append(track)

    def _new(self, label: int) -> Track:
        self._number += 1
        self.tracks.append(Track(self._number, label))
        return self.tracks[-1]


def _reach(covariances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Distances (T,) [m] within which the next detections are expected.

    Of each track's own uncertainty (T, 7, 7) and of its class' noise: a well-known track is no better detected.
    """
    largest = np.linalg.eigvalsh(covariances[:, [[X], [Y]], [X, Y]])[:, -1]
    noise = np.array([NOISE[label].position for label in labels])
    return np.clip(REACH_SIGMAS * np.sqrt(largest + noise**2), *REACH_M)


def is_backwards(yaw: Sequence[float] | np.ndarray, sightings: Sequence[Sighting]) -> bool:
    """Tell whether most detections, by score, point the other way than a filter's headings (M,).

    The filter keeps the direction of the first detection, which may have been seen the wrong way round.
    """
    votes = [sighting.score * np.cos(sighting.box[6] - angle) for sighting, angle in zip(sightings, yaw, strict=True)]
    return bool(sum(votes) < 0)

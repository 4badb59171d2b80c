"""Online tracker: boxes of one moment after the other → the tracks that they belong to.

All boxes are (M, 9) in the order of `types.BOX_FIELDS`, in one frame that is fixed to the world, and stamps are integer
nanoseconds. The tracker looks back alone; `smoothing` also uses what comes later.
"""

from dataclasses import dataclass, field

import numpy as np

from vexkd_model.tracking.association import associate
from vexkd_model.tracking.classes import MOTION, NOISE
from vexkd_model.tracking.kalman import State, X, Y, begin, predict, update

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

    def expected(self, stamp_ns: int) -> State:
        """State of the filter at a later moment."""
        last = self.sightings[-1]
        return predict(last.state, (stamp_ns - last.stamp_ns) * 1e-9, MOTION[self.label])

    def see(self, stamp_ns: int, box: np.ndarray, score: float) -> None:
        """Add a detection."""
        motion, noise = MOTION[self.label], NOISE[self.label]
        state = update(self.expected(stamp_ns), box, noise) if self.sightings else begin(box, motion, noise)
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
        states = [track.expected(stamp_ns) for track in self.tracks]
        means = np.reshape([state.mean[[X, Y]] for state in states], (-1, 2))
        pairs = associate(
            means, np.array([track.label for track in self.tracks], int), _reach(states), boxes[:, :2], labels
        )
        track_of = {detection: self.tracks[track] for track, detection in pairs}
        found = []
        for i, (box, label, score) in enumerate(zip(boxes, labels, scores, strict=True)):
            track = track_of.get(i) or self._new(int(label))
            track.see(stamp_ns, np.asarray(box, np.float64), float(score))
            found.append(track)
        return found

    def _end(self, stamp_ns: int) -> None:
        for track in list(self.tracks):
            if (stamp_ns - track.sightings[-1].stamp_ns) * 1e-9 > LONGEST_GAP_S:
                self.tracks.remove(track)
                self.ended.append(track)

    def _new(self, label: int) -> Track:
        self._number += 1
        self.tracks.append(Track(self._number, label))
        return self.tracks[-1]


def _reach(states: list[State]) -> np.ndarray:
    """Distance [m] within which a track's next detection is expected: of its own uncertainty."""
    largest = [np.linalg.eigvalsh(state.covariance[np.ix_([X, Y], [X, Y])])[-1] for state in states]
    return np.clip(REACH_SIGMAS * np.sqrt(np.array(largest)), *REACH_M)

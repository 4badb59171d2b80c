"""Offline tracking: tracks of a whole scene, smoothed by what came before and after, with one size each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vexkd_model.geometry.boxes import wrap_angle
from vexkd_model.tracking.classes import MOTION, NOISE, STILL
from vexkd_model.tracking.doubles import single_detections, single_tracks
from vexkd_model.tracking.kalman import VX, VY, YAW, Motion, State, X, Y, Z, begin, predict, smooth, update
from vexkd_model.tracking.tracker import Sighting, Track, Tracker, is_backwards

STANDING_MPS, STANDING_M = 0.4, 1.0  # mean speed and way of a track below which it is taken as standing


class Moment(NamedTuple):
    """Detections of one moment: boxes (M, 9) in a frame fixed to the world, labels int (M,), scores (M,)."""

    stamp_ns: int
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class SmoothTrack:
    """Smoothed track at every moment from the first to the last in which it was seen.

    first: number of the first moment. boxes: float64 (K, 9), of one size. scores: (K,), half the mean over the track,
    half the detection's own, both with 0 where it was not detected.
    """

    number: int
    label: int
    first: int
    boxes: np.ndarray
    scores: np.ndarray


def track_scene(moments: Sequence[Moment]) -> list[SmoothTrack]:
    """Track all objects of a scene, whose moments are in the order of time."""
    tracker = Tracker()
    for stamp_ns, boxes, labels, scores in moments:
        single = single_detections(boxes, labels, scores)
        tracker.step(stamp_ns, boxes[single], labels[single], scores[single])
    stamps = [moment.stamp_ns for moment in moments]
    tracks = [_smoothed(track, stamps) for track in (*tracker.ended, *tracker.tracks)]
    return single_tracks(sorted(tracks, key=lambda track: track.number))


def _smoothed(track: Track, stamps_ns: Sequence[int]) -> SmoothTrack:
    first = stamps_ns.index(track.sightings[0].stamp_ns)
    last = stamps_ns.index(track.sightings[-1].stamp_ns)
    stamps = stamps_ns[first : last + 1]
    sightings = {sighting.stamp_ns: sighting for sighting in track.sightings}
    means = _smooth_means(track.label, MOTION[track.label], stamps, sightings)
    if _stands(means):
        means = _smooth_means(track.label, STILL, stamps, sightings)
    scores = np.array([sightings[stamp].score if stamp in sightings else 0.0 for stamp in stamps])
    boxes = np.empty((len(stamps), 9))
    boxes[:, :3], boxes[:, 7:9] = means[:, [X, Y, Z]], means[:, [VX, VY]]
    boxes[:, 3:6] = np.median([sighting.box[3:6] for sighting in track.sightings], axis=0)
    yaw_when_seen = means[[stamp in sightings for stamp in stamps], YAW]
    boxes[:, 6] = wrap_angle(means[:, YAW] + (np.pi if is_backwards(yaw_when_seen, track.sightings) else 0.0))
    return SmoothTrack(track.number, track.label, first, boxes, (scores + scores.mean()) / 2)


def _smooth_means(label: int, motion: Motion, stamps_ns: Sequence[int], sightings: dict[int, Sighting]) -> np.ndarray:
    """Means (K, 7) of the smoothed states at all stamps; the first is one of the sightings'."""
    noise = NOISE[label]
    states: list[State] = [begin(sightings[stamps_ns[0]].box, motion, noise)]
    seen = stamps_ns[0]
    for before, stamp in pairwise(stamps_ns):
        state = predict(states[-1], (stamp - before) * 1e-9, motion)
        if stamp in sightings:
            state, seen = update(state, sightings[stamp].box, noise.after((stamp - seen) * 1e-9)), stamp
        states.append(state)
    seconds = [(stamp - stamps_ns[0]) * 1e-9 for stamp in stamps_ns]
    return np.array([state.mean for state in smooth(states, seconds, motion)])


def _stands(means: np.ndarray) -> bool:
    way = np.linalg.norm(means[:, [X, Y]] - means[:, [X, Y]].mean(axis=0), axis=1).max()
    return bool(way < STANDING_M and np.linalg.norm(means[:, [VX, VY]].mean(axis=0)) < STANDING_MPS)

"""Plan of a bag's scenes: where each message was taken, which moments are keyframes, what belongs to which."""

import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import inverse
from vexkd_ros.bags.dataset.recording import Recording
from vexkd_ros.inputs.assembly import InputSettings
from vexkd_ros.inputs.errors import TransformUnavailable

TOLERANCE_NS = round(InputSettings.camera_tolerance * 1e9)  # the node's, between the images of one moment


@dataclass(frozen=True)
class Capture:
    """File that is to be written of a sensor's message, or of those of several LiDARs.

    messages: topic and stamp [ns] of each; the first is `stamp_ns`. base_from_sensor, odom_from_base: float64 (4, 4) at
    that time. sensor_from: float64 (4, 4) for each message, from the frame of its own points to the sensor's.
    keyframe_ns: stamp of the keyframe that it belongs to. is_keyframe: one of the files of that sample itself.
    """

    channel: str
    messages: tuple[tuple[str, int], ...]
    base_from_sensor: np.ndarray
    odom_from_base: np.ndarray
    sensor_from: tuple[np.ndarray, ...]
    keyframe_ns: int = 0
    is_keyframe: bool = False

    @property
    def stamp_ns(self) -> int:
        return self.messages[0][1]


@dataclass(frozen=True)
class Plan:
    """Plan of one bag. scenes: stamps [ns] of each scene's keyframes. captures: by channel, in the order of time."""

    scenes: tuple[tuple[int, ...], ...]
    captures: dict[str, tuple[Capture, ...]]


def place_messages(recording: Recording) -> dict[str, list[Capture]]:
    """Place the messages of each sensor, in the order of time.

    Prints how many have no place, and why. UserError where a sensor is left without any.
    """
    wiring = recording.wiring
    placed = {name: _lidar_captures(recording, name) for name in wiring.lidars}
    return placed | {name: _camera_captures(recording, name) for name in wiring.cameras}


def make_plan(
    recording: Recording,
    placed: Mapping[str, list[Capture]],
    annotated: Sequence[int],
    rate: float,
    scene_length: float | None,
) -> Plan:
    """Plan keyframes `rate` times a second, in scenes of at most `scene_length` seconds.

    annotated: stamps [ns] of all annotated moments, in ascending order. Prints what is left out. UserError where a
    sensor has no message near a keyframe, or no message is near an annotated moment.
    """
    stamps = [one.stamp_ns for one in placed[recording.wiring.reference]]
    keyframes = _annotated_keyframes(recording, stamps, annotated, rate) if annotated else at_rate(stamps, rate)
    reach_ns = round(max(1.0, 1 / rate) * 1e9)
    captures = {name: _assigned(recording, name, of_sensor, keyframes, reach_ns) for name, of_sensor in placed.items()}
    length_ns = round(scene_length * 1e9) if scene_length else keyframes[-1] - keyframes[0] + 1
    scenes: dict[int, list[int]] = {}
    for stamp in keyframes:
        scenes.setdefault((stamp - keyframes[0]) // length_ns, []).append(stamp)
    return Plan(tuple(map(tuple, scenes.values())), captures)


def at_rate(stamps: Sequence[int], rate: float) -> list[int]:
    """Choose stamps, in ascending order, each the nearest to 1 / rate after the one before."""
    interval, chosen = 1e9 / rate, [stamps[0]]
    while (first := bisect_left(stamps, chosen[-1] + interval / 2)) < len(stamps):
        chosen.append(stamps[max(first, nearest(stamps, round(chosen[-1] + interval)))])
    return chosen


def nearest(stamps: Sequence[int], stamp: int) -> int:
    """Return which of the stamps, in ascending order, is nearest."""
    after = min(bisect_left(stamps, stamp), len(stamps) - 1)
    before = max(after - 1, 0)
    return before if stamp - stamps[before] <= abs(stamps[after] - stamp) else after


def _lidar_captures(recording: Recording, name: str) -> list[Capture]:
    """Place the clouds of a LiDAR; those of others that are merged go to the nearest one within half of a period."""
    main, *others = recording.wiring.lidars[name].points
    base = recording.wiring.base_frame
    captures = _placed(recording, name, main)
    stamps = [capture.stamp_ns for capture in captures]
    for topic in others:
        near: dict[int, int] = {}
        tolerance = tolerance_ns(stamps)
        for stamp in _stamps(recording, topic):
            to = stamps[nearest(stamps, stamp)]
            if abs(to - stamp) <= tolerance and abs(near.get(to, stamp + tolerance) - to) >= abs(to - stamp):
                near[to] = stamp
        merged, frame = [], recording.frame(topic)
        for capture in captures:
            stamp = near.get(capture.stamp_ns)
            try:
                if stamp is not None:
                    odom_from_other = _pose(recording, stamp) @ recording.seen.transforms.lookup(base, frame, stamp)
                    sensor_from_odom = inverse(capture.odom_from_base @ capture.base_from_sensor)
                    capture = replace(
                        capture,
                        messages=(*capture.messages, (topic, stamp)),
                        sensor_from=(*capture.sensor_from, sensor_from_odom @ odom_from_other),
                    )
            except TransformUnavailable:
                pass
            merged.append(capture)
        alone = sum(topic not in dict(capture.messages) for capture in merged)
        if alone == len(merged):
            raise UserError(
                f"{recording.bag}: {topic}: no cloud of it is within {tolerance * 1e-6:.0f} ms of one of {main}: "
                "compare their clocks, or leave it out"
            )
        if alone:
            _say(recording, f"{topic}: missing in {alone} of {len(merged)} clouds of {main}, which are written without")
        captures = merged
    return captures


def _camera_captures(recording: Recording, name: str) -> list[Capture]:
    return _placed(recording, name, recording.wiring.cameras[name].image)


def _placed(recording: Recording, name: str, topic: str) -> list[Capture]:
    """Place each message of a topic; say how many have no place."""
    base, frame = recording.wiring.base_frame, recording.frame(topic)
    captures, reasons, last = [], Counter(), ""
    stamps = _stamps(recording, topic)
    for stamp in stamps:
        try:
            base_from_sensor = recording.seen.transforms.lookup(base, frame, stamp)
            odom_from_base = _pose(recording, stamp)
        except TransformUnavailable as error:
            reasons[error.kind] += 1
            last = str(error)
            continue
        captures.append(Capture(name, ((topic, stamp),), base_from_sensor, odom_from_base, (np.eye(4),)))
    if not captures:
        raise UserError(f"{recording.bag}: {topic}: {last}")
    for reason, count in reasons.items():
        _say(recording, f"{topic}: {count} of {len(stamps)} messages are left out: {reason}")
    return captures


def _pose(recording: Recording, stamp_ns: int) -> np.ndarray:
    """Return odom_from_base; TransformUnavailable where it is not known, or too long is interpolated."""
    wiring = recording.wiring
    odom_from_base = recording.seen.transforms.lookup(wiring.odom_frame, wiring.base_frame, stamp_ns)
    if pause := recording.pause_at(stamp_ns):
        raise TransformUnavailable(
            f"the poses {wiring.odom_frame} → {wiring.base_frame} pause for too long there; look at who publishes them",
            f"{pause:.1f} s",
        )
    return odom_from_base


def _stamps(recording: Recording, topic: str) -> list[int]:
    return sorted(set(recording.heard(topic).stamps))


def tolerance_ns(stamps: Sequence[int]) -> int:
    """Return how far [ns] a moment may be from one of a sensor's stamps, in ascending order, to be meant by it."""
    return min(TOLERANCE_NS, round(_period_ns(stamps) / 2) + 1)


def _period_ns(stamps: Sequence[int]) -> float:
    return float(np.median(np.diff(stamps))) if len(stamps) > 1 else float(TOLERANCE_NS)


def _annotated_keyframes(
    recording: Recording, stamps: Sequence[int], annotated: Sequence[int], rate: float
) -> list[int]:
    """Choose keyframes of the reference's stamps at annotated moments: others would say that nothing is there."""
    tolerance = tolerance_ns(stamps)
    near = {stamps[nearest(stamps, stamp)]: stamp for stamp in annotated}
    candidates = sorted(to for to, stamp in near.items() if abs(to - stamp) <= tolerance)
    if not candidates:
        source = recording.wiring.annotations.source if recording.wiring.annotations else ""
        raise UserError(
            f"{recording.bag}: {source}: no annotated moment is within {tolerance * 1e-6:.0f} ms of a message of "
            f"{recording.wiring.reference} that has a place: compare the stamps"
        )
    chosen = at_rate(candidates, rate)
    if left := len(candidates) - len(chosen):
        _say(recording, f"{left} annotated moments are left out between the keyframes; a higher --rate takes them")
    return chosen


def _assigned(
    recording: Recording, name: str, captures: list[Capture], keyframes: list[int], reach_ns: int
) -> tuple[Capture, ...]:
    """Give each capture its keyframe; the nearest to a keyframe within tolerance is that sample's own."""
    stamps = [capture.stamp_ns for capture in captures]
    own = {to: stamps[nearest(stamps, to)] for to in keyframes}
    own = {to: stamp for to, stamp in own.items() if abs(stamp - to) <= TOLERANCE_NS}
    if not own:
        apart = float(np.median([abs(stamps[nearest(stamps, to)] - to) for to in keyframes])) * 1e-6
        raise UserError(
            f"{recording.bag}: {captures[0].messages[0][0]}: its messages lie {apart:.0f} ms from the keyframes of "
            f"{recording.wiring.reference}: compare their clocks, or trigger them together"
        )
    # Of two keyframes near one message, the nearer, which comes last, has it.
    sample_of = {stamp: to for to, stamp in sorted(own.items(), key=lambda one: -abs(one[1] - one[0]))}
    if without := len(keyframes) - len(sample_of):
        _say(
            recording,
            f"{name}: {without} of {len(keyframes)} keyframes have no message of their own within "
            f"{TOLERANCE_NS * 1e-6:.0f} ms, and are without it",
        )
    assigned = []
    for capture in captures:
        to = sample_of.get(capture.stamp_ns, keyframes[nearest(keyframes, capture.stamp_ns)])
        if abs(to - capture.stamp_ns) <= reach_ns:
            assigned.append(replace(capture, keyframe_ns=to, is_keyframe=capture.stamp_ns in sample_of))
    return tuple(assigned)


def _say(recording: Recording, line: str) -> None:
    print(f"{recording.bag}: {line}", file=sys.stderr)

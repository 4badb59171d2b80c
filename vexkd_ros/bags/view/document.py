"""Content of the page: every moment in base_link, and how each student's boxes compare with the annotated ones."""

import base64
import math
from collections.abc import Sequence

import numpy as np

from vexkd_model.errors import UserError
from vexkd_model.evaluation.matching import match_by_centre, within_range
from vexkd_model.figures.palette import DETECTION_COLOURS, MAP_COLOURS, Rgb
from vexkd_model.geometry.boxes import points_in_boxes, wrap_angle
from vexkd_model.geometry.transforms import apply
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, Boxes, Prediction
from vexkd_ros.bags.published import NOTHING, read_boxes, read_map
from vexkd_ros.bags.view.pictures import camera_pictures, map_picture
from vexkd_ros.bags.view.recording import GROUND_TRUTH, Moment, RecordedPoses, Recording
from vexkd_ros.bags.view.students import ViewedStudent
from vexkd_ros.inputs.errors import CloudError
from vexkd_ros.inputs.pointcloud import read_cloud

SHOWN_POINTS = 15_000  # of a cloud, drawn at random
REACH_M = 80.0  # points further away are left out
YAW = 6  # column of Boxes.values
SAME_FROM_BEHIND, WITHOUT_HEADING = "barrier", "traffic_cone"  # what nuScenes' heading error says of them


def make_document(title: str, recording: Recording, students: Sequence[ViewedStudent]) -> dict:
    """Describe a recording and its students for the page, as JSON takes it. UserError where nothing could be shown."""
    poses, notes = RecordedPoses(recording.transforms), set()
    frames = [_frame(moment, recording, poses, students, notes) for moment in recording.moments]
    if not any(frame["points"] or frame["truth"] or frame["cameras"] or any(frame["answers"]) for frame in frames):
        raise UserError(f"{title}: nothing to see; {'; '.join(sorted(notes)) or 'the messages are empty'}")
    return {
        "title": title,
        "notes": sorted(notes),
        "students": [student.name for student in students],
        "thresholds": [
            None
            if student.thresholds is None
            else dict(zip(DETECTION_CLASSES, student.thresholds.tolist(), strict=True))
            for student in students
        ],
        "frames": frames,
        "has_truth": any(GROUND_TRUTH in moment.messages for moment in recording.moments),
        "has_true_map": any(frame["true_map"] for frame in frames),
        "class_colours": {name: _hexadecimal(colour) for name, colour in DETECTION_COLOURS.items()},
        "map_colours": {name: _hexadecimal(colour) for name, colour in MAP_COLOURS.items()},
    }


def _frame(
    moment: Moment, recording: Recording, poses: RecordedPoses, students: Sequence[ViewedStudent], notes: set[str]
) -> dict:
    messages, stamp = moment.messages, moment.stamp_ns
    points = shown_points(messages.get(recording.points), recording.points, poses, notes)
    truth, scores = _in_range(*read_boxes(messages[GROUND_TRUTH])[:2]) if GROUND_TRUTH in messages else NOTHING
    if (scores < 1).any():
        notes.add("A model made boxes that stand here as annotated ones (dotted).")
    counts = None if points is None else points_in_boxes(points, truth.values).sum(axis=1).tolist()
    true_grids = [messages.get(f"{GROUND_TRUTH}/map/{name}") for name in MAP_CLASSES]
    complete = [grid for grid in true_grids if grid is not None]
    return {
        "scene": moment.bag,
        "seconds": (stamp - next(first.stamp_ns for first in recording.moments if first.bag == moment.bag)) * 1e-9,
        "points": "" if points is None else _encoded(points),
        "has_truth": GROUND_TRUTH in messages,
        "truth": [
            {"values": values, "class": name, "points": counts and counts[j], "made": bool(scores[j] < 1)}
            for j, (values, name) in enumerate(_listed(truth))
        ],
        "true_map": map_picture(*read_map(complete)) if len(complete) == len(MAP_CLASSES) else None,
        "cameras": camera_pictures(moment, recording, poses, notes),
        "answers": [
            _answer(student.predictions.get(stamp), student.latency_ms.get(stamp), truth) for student in students
        ],
    }


def _answer(prediction: Prediction | None, latency_ms: float | None, truth: Boxes) -> dict | None:
    """Describe a student's boxes in the metrics' range, each with the number of the annotated box that it hits, or −1.

    A better detection chooses first, so that a threshold on the score changes nobody else's match.
    """
    if prediction is None:
        return None
    found, scores = _in_range(prediction.boxes, prediction.scores)
    hits = {int(i): int(j) for i, j in match_by_centre(found, scores, truth).hits}
    return {
        "found": [
            {
                "values": values,
                "class": name,
                "score": round(float(scores[i]), 4),
                "hit": hits.get(i, -1),
                "turned": heading_error(found, i, truth, hits[i]) if i in hits else None,
            }
            for i, (values, name) in enumerate(_listed(found))
        ],
        "map": map_picture(prediction.map_probabilities, prediction.map_grid),
        "latency_ms": None if latency_ms is None else round(latency_ms, 1),
    }


def heading_error(found: Boxes, i: int, truth: Boxes, j: int) -> float | None:
    """Return the angle [°] between two boxes' headings; None for a class without one.

    Source: nuscenes-devkit, eval/detection/algo.py: a barrier looks the same from behind, a cone has no heading.
    """
    name = DETECTION_CLASSES[truth.labels[j]]
    if name == WITHOUT_HEADING:
        return None
    difference = abs(float(wrap_angle(found.values[i, YAW] - truth.values[j, YAW])))
    if name == SAME_FROM_BEHIND:
        difference = min(difference, math.pi - difference)
    return round(math.degrees(difference), 1)


def _in_range(boxes: Boxes, scores: np.ndarray) -> tuple[Boxes, np.ndarray]:
    near = within_range(boxes)
    return Boxes(boxes.values[near], boxes.labels[near]), scores[near]


def _listed(boxes: Boxes) -> list[tuple[list[float | None], str]]:
    """List values, rounded to millimetres, None for what is unknown, and class."""
    return [
        ([round(value, 3) if math.isfinite(value) else None for value in values], DETECTION_CLASSES[label])
        for values, label in zip(boxes.values.tolist(), boxes.labels.tolist(), strict=True)
    ]


def shown_points(message: object, topic: str, poses: RecordedPoses, notes: set[str]) -> np.ndarray | None:
    """Return a cloud's points (N, 3) in base_link; None where there is none, or no place for it, which `notes` says."""
    if message is None:
        return None
    frame = message.header.frame_id  # pyright: ignore[reportAttributeAccessIssue]
    base_from_sensor = poses.mount(frame)
    if base_from_sensor is None:
        notes.add(
            f"{topic}: no static transform leads from its frame {frame!r} to base_link, so its points are left out; "
            f"record /tf_static, or name the transforms with --tf"
        )
        return None
    try:
        return apply(base_from_sensor, read_cloud(message).points[:, :3])
    except CloudError as error:
        raise UserError(f"a cloud of {frame}: {error}") from None


def _encoded(points: np.ndarray) -> str:
    """Encode x, y, z [cm] of some points as little-endian int16, in base64."""
    points = points[np.abs(points).max(axis=1) < REACH_M] if len(points) else points
    if len(points) > SHOWN_POINTS:
        points = points[np.random.default_rng(0).choice(len(points), SHOWN_POINTS, replace=False)]
    return base64.b64encode(np.rint(points * 100).astype("<i2").tobytes()).decode()


def _hexadecimal(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)

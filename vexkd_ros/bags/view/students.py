"""Predictions to be viewed: of nodes that were recorded, and of packages that run here on the bags' inputs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_model.types import MAP_CLASSES, Prediction
from vexkd_ros.bags.published import NOTHING, read_boxes, read_map
from vexkd_ros.bags.student_replay import ReplayRecord, TopicNames, predict_bag
from vexkd_ros.bags.view.recording import Recording


@dataclass
class ViewedStudent:
    """Student of the page. predictions, latency_ms: by stamp of the moment [ns]; of a moment either may be missing.

    thresholds: scores (10,) by class from which on a box is worth showing, None where no card states them.
    """

    name: str
    thresholds: np.ndarray | None = None
    predictions: dict[int, Prediction] = field(default_factory=dict)
    latency_ms: dict[int, float] = field(default_factory=dict)


def recorded_student(recording: Recording, node: str) -> ViewedStudent:
    """Read what a node published at the recording's moments."""
    student = ViewedStudent(node.strip("/"))
    for moment in recording.moments:
        messages = moment.messages
        detections = messages.get(f"{node}/detections")
        grids = [messages.get(f"{node}/map/{name}") for name in MAP_CLASSES]
        complete = [grid for grid in grids if grid is not None]
        if detections is None and len(complete) < len(MAP_CLASSES):
            continue
        boxes, scores = read_boxes(detections, messages.get(f"{node}/markers"))[:2] if detections else NOTHING
        map_of = read_map(complete) if len(complete) == len(MAP_CLASSES) else (None, None)
        student.predictions[moment.stamp_ns] = Prediction(boxes, scores, *map_of, moment.stamp_ns)
        latency = _total_ms(messages.get(f"{node}/debug/latency"))
        if latency is not None:
            student.latency_ms[moment.stamp_ns] = latency
    return student


def _total_ms(message: Any) -> float | None:
    if message is None:
        return None
    return next((float(pair.value) for pair in message.status[0].values if pair.key == "total_ms"), None)


def replayed_student(recording: Recording, package: Path, tf: str) -> ViewedStudent:
    """Run a package on the bags' inputs at the recording's moments. UserError where they hold no input for it."""
    topics = TopicNames(points=recording.points, tf=tf)
    predictor = Predictor.load(package, runtime="auto", precision="auto")
    moment_of = {}  # stamp of the input → of the moment: a LiDAR student answers at its clouds' stamps
    for moment in recording.moments:
        cloud = moment.messages.get(recording.points) if predictor.config.lidar else None
        stamp = cloud.header.stamp.sec * 10**9 + cloud.header.stamp.nanosec if cloud else moment.stamp_ns
        moment_of[stamp] = moment.stamp_ns
    student, record = ViewedStudent(Path(package).name, predictor.thresholds), ReplayRecord()
    found = (
        prediction
        for bag in _bags_with_inputs(recording, predictor.config, package)
        for prediction in predict_bag(bag, predictor, moment_of.keys(), topics, record)
    )
    for prediction in progress(found, f"run {student.name}", len(moment_of), "moments"):
        stamp = moment_of[prediction.stamp_ns]
        student.predictions[stamp] = prediction
        student.latency_ms[stamp] = 1000 * (record.latency["convert"][-1] + record.latency["infer"][-1])
    if not student.predictions:
        why = record.drops.most_common(1)[0][0] if record.drops else "none of the moments has input for it"
        raise UserError(f"{package}: no prediction at any moment of the bags: {why}")
    return student


def _bags_with_inputs(recording: Recording, config: ModelConfig, package: Path) -> list[Path]:
    """List the bags that hold clouds for a LiDAR student, or images of any of a camera student's cameras."""
    wanted = {recording.points}
    if config.camera is not None:
        names = [f"/{name.lower()}/image" for name in config.camera.images.cameras]
        wanted = {*names, *(f"{name}/compressed" for name in names)}
    bags = [bag for bag, topics in recording.topics.items() if wanted & topics]
    if not bags:
        raise UserError(f"--student {package}: the bags hold no {' and no '.join(sorted(wanted))}")
    return bags

"""Average precision by the rule of the nuScenes metrics, fast enough to be computed while a model is trained."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vexkd_model.evaluation.matching import match_by_centre, within_range
from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction

DISTANCES_M = (0.5, 1.0, 2.0, 4.0)  # of detection_cvpr_2019, as what follows
MIN_RECALL, MIN_PRECISION = 0.1, 0.1
RECALLS = np.linspace(0, 1, 101)


class _Frame(NamedTuple):
    """One frame's detections, M, with whether they hit at each distance, bool (M, D), and its annotations' labels."""

    labels: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    truth: np.ndarray


class PrecisionRecall:
    """Counter of hits over frames, at several matching distances [m].

    The figures are those of the devkit, but for bicycles and motorcycles in bicycle racks, which it does not count.
    Source: nuscenes-devkit, nuscenes/eval/detection/algo.py, `accumulate` and `calc_ap`.
    """

    def __init__(self, distances: Sequence[float] = DISTANCES_M) -> None:
        self.distances = distances
        self.frames: list[_Frame] = []

    def update(self, prediction: Prediction, truth: Boxes) -> None:
        """Add one frame; truth: the annotated boxes that hold a LiDAR or radar point."""
        found, scores, truth = in_range(prediction, truth)
        hits = np.zeros((len(found), len(self.distances)), bool)
        for i, distance in enumerate(self.distances):
            hits[match_by_centre(found, scores, truth, distance).hits[:, 0], i] = True
        self.frames.append(_Frame(found.labels, scores, hits, truth.labels))

    def extend(self, frames: Iterable[_Frame]) -> None:
        """Add the frames of another counter with the same distances."""
        self.frames.extend(frames)

    def precision(self, label: int) -> np.ndarray:
        """Precision (D, 101) of a class at RECALLS, at each distance; 0 beyond the recall that is reached."""
        truth = sum(int(np.sum(frame.truth == label)) for frame in self.frames)
        chosen = [frame.labels == label for frame in self.frames]
        curves = np.zeros((len(self.distances), len(RECALLS)))
        if not truth or not any(map(np.any, chosen)):
            return curves
        scores, hits = (
            np.concatenate([values[mask] for values, mask in zip(columns, chosen, strict=True)])
            for columns in ([frame.scores for frame in self.frames], [frame.hits for frame in self.frames])
        )
        right = np.cumsum(hits[np.argsort(-scores, kind="stable")], axis=0)
        precision = right / np.arange(1, len(right) + 1)[:, None]
        for i in np.flatnonzero(right[-1]):
            curves[i] = np.interp(RECALLS, right[:, i] / truth, precision[:, i], right=0)
        return curves

    def average_precision(self) -> dict[str, float]:
        """AP of each class, mean over the distances; 0 of a class without annotations, as in the official mean."""
        first = round(100 * MIN_RECALL) + 1
        return {
            name: float(np.clip(self.precision(label)[:, first:] - MIN_PRECISION, 0, None).mean() / (1 - MIN_PRECISION))
            for label, name in enumerate(DETECTION_CLASSES)
        }


def in_range(prediction: Prediction, truth: Boxes) -> tuple[Boxes, np.ndarray, Boxes]:
    """Select detections, their scores, and annotations within the metrics' range of their class."""
    found, near = within_range(prediction.boxes), within_range(truth)
    boxes = prediction.boxes
    return (
        Boxes(boxes.values[found], boxes.labels[found]),
        prediction.scores[found],
        Boxes(truth.values[near], truth.labels[near]),
    )

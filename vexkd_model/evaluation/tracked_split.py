"""Online tracking of a split's predictions, keyframe by keyframe, and its score."""

from collections.abc import Iterable, Iterator

import numpy as np

from vexkd_model.data.index import FrameIndex
from vexkd_model.evaluation.motion_errors import motion_errors
from vexkd_model.evaluation.tracking import TrackingResult, Tracks, score_tracks
from vexkd_model.tracking.online import OnlineTracker
from vexkd_model.types import Boxes, Prediction


class TrackedSplit:
    """Tracks of predictions in the order of the index, as `track_node` makes them of a student that runs at 2 Hz."""

    def __init__(self, index: FrameIndex) -> None:
        self._index, self._tracker = index, OnlineTracker()
        self._found: list[tuple[Boxes, np.ndarray]] = []
        self._tracks: list[Tracks] = []

    def follow(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yield the same predictions, one a keyframe of the index, and track each."""
        for i, prediction in enumerate(predictions):
            record, boxes, scores = self._index[i], prediction.boxes, prediction.scores
            objects = self._tracker.step(record.stamp_ns, boxes, scores, record.global_from_base)
            self._found.append((boxes, scores))
            self._tracks.append(
                Tracks(
                    prediction.token,
                    Boxes(
                        np.reshape([one.box for one in objects], (-1, 9)), np.array([one.label for one in objects], int)
                    ),
                    np.array([one.score for one in objects], np.float32),
                    np.array([one.number for one in objects], int),
                )
            )
            yield prediction

    def score(self) -> TrackingResult | None:
        """Score what was followed; see `score_tracks`."""
        pairs = zip(self._found, self._tracks, strict=True)
        motion = motion_errors(
            (found, (tracks.boxes, tracks.scores), self._index[i].counted_boxes)
            for i, (found, tracks) in enumerate(pairs)
        )
        return score_tracks(self._tracks, self._index, motion)

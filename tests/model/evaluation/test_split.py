"""A split as a whole: what is scored where frames, annotations or maps are missing."""

import json

import numpy as np
import pytest
from support.tiny_nuscenes import write_tiny_nuscenes
from test_detection_metrics import perfect, prediction

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import score_split


def of_all_frames(index):
    return (prediction(record.token, *perfect(record)) for record in (index[i] for i in range(len(index))))


def test_keyframes_that_cannot_be_read_count_as_frames_without_detections(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2})
    (root / "samples" / "LIDAR_TOP" / "scene-0103-1-0.pcd.bin").unlink()
    prepare(root, "v1.0-mini", tmp_path / "index", skip_bad=True)
    index = FrameIndex.open(tmp_path / "index", "mini_val")
    index.has_maps = False  # these predictions have a grid of their own
    kept = tmp_path / "kept.json"
    detection = score_split(of_all_frames(index), index, kept).detection
    assert [bool(boxes) for boxes in json.loads(kept.read_text())["results"].values()] == [True, False]
    assert detection.samples == 2 and "1 keyframes could not be read" in detection.note
    assert detection.class_ap["pedestrian"] == pytest.approx(0.5, abs=0.06)  # every second one is found, none is wrong
    with pytest.raises(UserError, match="no prediction"):
        score_split([], index)


def test_a_split_without_annotations_is_submitted_and_not_scored(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0077": 2}, version="v1.0-test")
    prepare(root, "v1.0-test", tmp_path / "index")
    index = FrameIndex.open(tmp_path / "index", "test")
    index.has_maps = False
    box = np.array([[5.0, 0, 1, 4, 2, 1.5, 0, 0, 0]])
    found = [prediction(token, box, [0], [0.5]) for token in index.column("token")]
    assert score_split(found, index, tmp_path / "submission.json", sensors=["camera"]).detection is None
    document = json.loads((tmp_path / "submission.json").read_text())
    assert document["meta"]["use_camera"] and not document["meta"]["use_lidar"]
    results = document["results"]
    assert {token: len(boxes) for token, boxes in results.items()} == dict.fromkeys(index.column("token"), 1)


def test_predictions_are_taken_one_by_one(tiny_index):
    """A map of each of nuScenes' 6,019 val frames would fill six gigabytes."""
    alive, most = 0, 0

    class Counted:
        def __init__(self, found):
            nonlocal alive, most
            self.found, alive = found, alive + 1
            most = max(most, alive)

        def __getattr__(self, name):
            return getattr(self.found, name)

        def __del__(self):
            nonlocal alive
            alive -= 1

    index = FrameIndex.open(tiny_index.folder.parent, tiny_index.split)
    index.has_maps = False
    score_split(map(Counted, of_all_frames(index)), index)
    assert len(index) == 3 and most <= 2

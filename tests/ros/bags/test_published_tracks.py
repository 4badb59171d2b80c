"""The evaluator on tracks that were recorded, made of annotations with the node's own messages."""

import json

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from std_msgs.msg import Header

from vexkd_model.errors import UserError
from vexkd_model.tracking.online import TrackedObject
from vexkd_model.types import Prediction
from vexkd_ros.bags.evaluator import KeyframesMissing, evaluate_bag, main
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.outputs.markers import markers_message
from vexkd_ros.outputs.tracks import track_markers, tracks_message

BOXES, MARKERS = "vision_msgs/msg/Detection3DArray", "visualization_msgs/msg/MarkerArray"
TOPICS = {
    "/student_node/detections": BOXES,
    "/student_node/markers": MARKERS,
    "/track_node/tracks": BOXES,
    "/track_node/markers": MARKERS,
}
EXTRA_MPS = 2.0  # of every detection's velocity; tracks are right


def write_bag(path, index, number_of, without=()):
    """Detections and tracks of all keyframes; number_of(keyframe, box): number of its track."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=bag_typestore()) for topic, kind in TOPICS.items()
        }
        for k in range(len(index)):
            record = index[k]
            header = Header(stamp=Time(sec=record.stamp_ns // 10**9, nanosec=record.stamp_ns % 10**9))
            header.frame_id = "base_link"
            scores = np.full(len(record.boxes), 0.5, np.float32)
            objects = [
                TrackedObject(number_of(k, i), int(label), 0.5, box.astype(float), np.eye(4), np.zeros((1, 3)))
                for i, (box, label) in enumerate(zip(record.boxes.values, record.boxes.labels, strict=True))
            ]
            prediction = Prediction(record.boxes, scores, None, None, record.stamp_ns)
            prediction.boxes.values[:, 7] += EXTRA_MPS
            messages = (
                detections_message(prediction, header),
                markers_message(prediction, header),
                tracks_message(objects, header),
                track_markers(objects, header),
            )
            prediction.boxes.values[:, 7] -= EXTRA_MPS
            for topic, message in zip(TOPICS, messages, strict=True):
                if (topic, k) not in without:
                    writer.write(connections[topic], 10**6 * (k + 1), serialize_message(message))
    return path


def test_recorded_tracks_have_their_switches_and_errors(tiny_index, tmp_path):
    steady = evaluate_bag(write_bag(tmp_path / "a", tiny_index, lambda k, i: i), tiny_index, track_node="/track_node")
    assert steady.tracking.ids == 0 and steady.tracking.mota == pytest.approx(1.0)
    motion = steady.tracking.motion.mean
    assert motion.velocity_before == pytest.approx(EXTRA_MPS, abs=0.01)
    assert motion.velocity_after == pytest.approx(0.0, abs=0.01)
    restless = write_bag(tmp_path / "b", tiny_index, lambda k, i: 100 * k + i)  # nothing keeps its number
    result = evaluate_bag(restless, tiny_index, track_node="/track_node").tracking
    assert result.ids == 2 * (len(tiny_index) - 1)  # a car and a person; a barrier is not tracked
    assert evaluate_bag(restless, tiny_index).tracking is None


def test_a_keyframe_without_tracks_and_a_bag_without_any_are_one_line(tiny_index, tmp_path):
    short = write_bag(tmp_path / "short", tiny_index, lambda k, i: i, without={("/track_node/tracks", 1)})
    with pytest.raises(KeyframesMissing, match="/track_node published tracks of 2 of 3 keyframes"):
        evaluate_bag(short, tiny_index, track_node="/track_node")
    with pytest.raises(UserError, match="holds no /other/markers; record it with"):
        evaluate_bag(short, tiny_index, track_node="/other")


def test_the_command_shows_and_writes_them(tiny_index, tmp_path, capsys):
    bag = write_bag(tmp_path / "bag", tiny_index, lambda k, i: i)
    dataset = [
        "--dataroot",
        str(tiny_index.dataroot),
        "--version",
        "v1.0-mini",
        "--index",
        str(tiny_index.folder.parent),
    ]
    assert main([str(bag), *dataset, "--track-node", "/track_node", "--json", str(tmp_path / "figures.json")]) == 0
    assert "0.0 identity switches a minute" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text())["tracking"]["amota"] == pytest.approx(1.0)

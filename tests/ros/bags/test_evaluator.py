"""The evaluator on bags whose messages were made, by hand, from the ground truth."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from vexkd_model.data.index import FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import score_split
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes, Prediction
from vexkd_ros.bags.evaluator import evaluate_bag, main
from vexkd_ros.bags.typestore import bag_typestore

GRID = BevGrid(-50.0, 50.0, -50.0, 50.0, 0.5)
Keep = Callable[[str, int], bool]


def truth_as_predictions(index: FrameIndex) -> list[Prediction]:
    """What a perfect student would say; unsure about the map, so that rounding to percent matters."""
    random = np.random.default_rng(1)
    predictions = []
    for i in range(len(index)):
        record, mask = index[i], index.map_mask(i)
        doubt = random.uniform(0, 0.45, mask.shape).astype(np.float32)
        predictions.append(
            Prediction(
                record.boxes,
                np.linspace(0.9, 0.4, len(record.boxes)).astype(np.float32),
                np.where(mask, 1 - doubt, doubt),
                GRID,
                record.stamp_ns,
                record.token,
            )
        )
    return predictions


def write_published(bag: Path, predictions: list[Prediction], keep: Keep = lambda topic, frame: True) -> Path:
    """A recorded bag as the ROS interface describes it, without any of the node's code."""
    store = bag_typestore()
    types = {
        "detections": "vision_msgs/msg/Detection3DArray",
        "markers": "visualization_msgs/msg/MarkerArray",
        "debug/latency": "diagnostic_msgs/msg/DiagnosticArray",
        **{f"map/{name}": "nav_msgs/msg/OccupancyGrid" for name in MAP_CLASSES},
    }
    with Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            name: writer.add_connection(f"/student_node/{name}", kind, typestore=store) for name, kind in types.items()
        }
        for frame, prediction in enumerate(predictions):
            messages = _messages(store, prediction)
            for name, message in messages.items():
                if keep(name, frame):
                    writer.write(connections[name], 1_000_000 * (frame + 1), store.serialize_cdr(message, types[name]))
    return bag


def _messages(store: Typestore, prediction: Prediction) -> dict[str, object]:
    t = store.types
    header = t["std_msgs/msg/Header"](
        t["builtin_interfaces/msg/Time"](prediction.stamp_ns // 10**9, prediction.stamp_ns % 10**9), "base_link"
    )
    detections, markers = [], [_marker(t, header, "", 0, [])]
    for i, (values, label) in enumerate(zip(prediction.boxes.values, prediction.boxes.labels, strict=True)):
        x, y, z, length, width, height, yaw, vx, vy = map(float, values)
        pose = t["geometry_msgs/msg/Pose"](
            t["geometry_msgs/msg/Point"](x, y, z),
            t["geometry_msgs/msg/Quaternion"](0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)),
        )
        result = t["vision_msgs/msg/ObjectHypothesisWithPose"](
            t["vision_msgs/msg/ObjectHypothesis"](DETECTION_CLASSES[label], float(prediction.scores[i])),
            t["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
        )
        size = t["geometry_msgs/msg/Vector3"](length, width, height)
        detections.append(
            t["vision_msgs/msg/Detection3D"](header, [result], t["vision_msgs/msg/BoundingBox3D"](pose, size), "")
        )
        point = t["geometry_msgs/msg/Point"]
        markers.append(_marker(t, header, "velocity", i, [point(x, y, z), point(x + vx, y + vy, z)]))
    pairs = [
        t["diagnostic_msgs/msg/KeyValue"](f"{stage}_ms", value)
        for stage, value in (("wait", "1"), ("convert", "2"), ("infer", "30"), ("publish", "4"), ("total", "37"))
    ]
    status = t["diagnostic_msgs/msg/DiagnosticStatus"](0, "latency", "", "", pairs)
    origin = t["geometry_msgs/msg/Pose"](
        t["geometry_msgs/msg/Point"](-50.0, -50.0, 0.0), t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    info = t["nav_msgs/msg/MapMetaData"](header.stamp, 0.5, 200, 200, origin)
    return {
        "detections": t["vision_msgs/msg/Detection3DArray"](header, detections),
        "markers": t["visualization_msgs/msg/MarkerArray"](markers),
        **{
            f"map/{name}": t["nav_msgs/msg/OccupancyGrid"](header, info, np.rint(100 * layer).astype(np.int8).ravel())
            for name, layer in zip(MAP_CLASSES, prediction.map_probabilities, strict=True)
        },
        "debug/latency": t["diagnostic_msgs/msg/DiagnosticArray"](header, [status]),
    }


def _marker(t: dict, header: object, namespace: str, number: int, points: list) -> object:
    vector, colour = t["geometry_msgs/msg/Vector3"](0.1, 0.1, 0.1), t["std_msgs/msg/ColorRGBA"](0.0, 0.0, 0.0, 1.0)
    pose = t["geometry_msgs/msg/Pose"](
        t["geometry_msgs/msg/Point"](0.0, 0.0, 0.0), t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    duration = t["builtin_interfaces/msg/Duration"](0, 0)
    texture = t["sensor_msgs/msg/CompressedImage"](header, "", np.zeros(0, np.uint8))
    mesh = t["visualization_msgs/msg/MeshFile"]("", np.zeros(0, np.uint8))
    return t["visualization_msgs/msg/Marker"](
        header,
        namespace,
        number,
        0,
        0 if namespace else 3,
        pose,
        vector,
        colour,
        duration,
        False,
        points,
        [],
        "",
        texture,
        [],
        "",
        "",
        mesh,
        False,
    )


def test_published_ground_truth_is_a_perfect_score(tiny_index: FrameIndex, tmp_path: Path) -> None:
    evaluation = evaluate_bag(write_published(tmp_path / "bag", truth_as_predictions(tiny_index)), tiny_index)
    detection, maps = evaluation.result.detection, evaluation.result.maps
    for name in ("car", "pedestrian", "barrier"):
        assert detection.ground_truth[name] == 3
        assert detection.class_ap[name] == pytest.approx(1, abs=1e-3)
    assert maps.mean_iou > 0.999
    (note,) = evaluation.notes
    assert note.startswith("no box scores below 0.40") and "score_threshold:=0.0" in note


def test_the_score_is_that_of_the_same_predictions_offline(tiny_index: FrameIndex, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    predictions = []
    for exact in truth_as_predictions(tiny_index):
        values = exact.boxes.values + random.normal(0, 0.4, exact.boxes.values.shape).astype(np.float32) * [
            1,
            1,
            1,
            0.1,
            0.1,
            0.1,
            1,
            1,
            1,
        ]
        boxes = Boxes(values.astype(np.float32), exact.boxes.labels)
        noise = random.uniform(-0.3, 0.3, exact.map_probabilities.shape)
        predictions.append(
            dataclasses.replace(
                exact, boxes=boxes, map_probabilities=(exact.map_probabilities + noise).clip(0, 1).astype(np.float32)
            )
        )
    offline = score_split(predictions, tiny_index)
    online = evaluate_bag(write_published(tmp_path / "bag", predictions), tiny_index).result
    assert 0.1 < offline.detection.mean_ap + 0.7 < 1, "neither perfect nor useless"
    assert online.detection.class_ap == pytest.approx(offline.detection.class_ap, abs=1e-6)
    assert online.detection.tp_errors == pytest.approx(offline.detection.tp_errors, abs=1e-4)
    assert online.maps.class_iou == pytest.approx(offline.maps.class_iou, abs=0.02)


def test_latency_is_that_of_every_frame(tiny_index: FrameIndex, tmp_path: Path) -> None:
    evaluation = evaluate_bag(write_published(tmp_path / "bag", truth_as_predictions(tiny_index)), tiny_index)
    assert evaluation.latency["total"] == pytest.approx([0.037] * 3)
    assert evaluation.to_dict()["latency_ms"]["infer"] == pytest.approx(
        {"frames": 3, "p50": 30, "p90": 30, "p99": 30, "max": 30}
    )
    assert "37.0" in evaluation.tables()


@pytest.mark.parametrize("lost", ["detections", "markers", "map/divider"])
def test_a_keyframe_that_lacks_a_message_is_no_score(tiny_index: FrameIndex, tmp_path: Path, lost: str) -> None:
    bag = write_published(
        tmp_path / "bag", truth_as_predictions(tiny_index), keep=lambda topic, frame: (topic, frame) != (lost, 1)
    )
    with pytest.raises(UserError, match=r"published 2 of 3 keyframes of mini_val \(.*missing: scene-0103-1\)"):
        evaluate_bag(bag, tiny_index)


def test_the_command_writes_the_figures_and_fails_in_one_line_where_frames_are_missing(
    tiny_index: FrameIndex, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dataset = [
        "--dataroot",
        str(tiny_index.dataroot),
        "--version",
        "v1.0-mini",
        "--index",
        str(tiny_index.folder.parent),
        "--json",
        str(tmp_path / "figures.json"),
    ]
    predictions = truth_as_predictions(tiny_index)
    short = write_published(tmp_path / "short", predictions[:2])
    with pytest.raises(SystemExit, match=r"vexkd-bag-evaluator: .*published 2 of 3 keyframes"):
        main([str(short), *dataset])
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "figures.json").exists()

    assert main([str(write_published(tmp_path / "whole", predictions)), *dataset]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["keyframes"] == 3
    assert figures["detection"]["class_ap"]["car"] == pytest.approx(1, abs=1e-3)
    assert figures["map"]["mean_iou"] > 0.999


def test_a_student_without_a_map_is_scored_by_its_detections_alone(tiny_index: FrameIndex, tmp_path: Path) -> None:
    predictions = truth_as_predictions(tiny_index)
    whole = write_published(tmp_path / "whole", predictions)
    evaluation = evaluate_bag(without(whole, tmp_path / "boxes", "/student_node/map/"), tiny_index)
    assert evaluation.result.maps is None
    assert evaluation.result.detection.class_ap["car"] == pytest.approx(1, abs=1e-3)
    maps = without(whole, tmp_path / "maps", "/student_node/detections", "/student_node/markers")
    evaluation = evaluate_bag(maps, tiny_index)
    assert evaluation.result.detection is None
    assert evaluation.result.maps.mean_iou > 0.999
    with pytest.raises(UserError, match="holds no /student_node/map/divider; record with"):
        evaluate_bag(without(whole, tmp_path / "less", "/student_node/map/divider"), tiny_index)


def without(bag: Path, copy: Path, *topics: str) -> Path:
    """A copy of a bag without the topics that begin like this."""
    with AnyReader([bag]) as reader, Writer(copy, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        kept = {
            connection.topic: writer.add_connection(connection.topic, connection.msgtype, typestore=bag_typestore())
            for connection in reader.connections
            if not connection.topic.startswith(topics)
        }
        for connection, stamp, data in reader.messages():
            if connection.topic in kept:
                writer.write(kept[connection.topic], stamp, data)
    return copy


def test_a_bag_of_something_else_is_one_line(tiny_index: FrameIndex, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    with Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/elsewhere", "std_msgs/msg/Header", typestore=bag_typestore())
    with pytest.raises(UserError, match="holds no /student_node/detections"):
        evaluate_bag(bag, tiny_index)

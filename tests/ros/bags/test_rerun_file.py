"""`bag_view --out view.rrd`: Rerun reads back what the bags hold, at its place and time."""

import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from pyquaternion import Quaternion
from support.rig import LIDAR_XYZ
from support.viewed_bags import FOCAL, LATER_NS, SIZE, TURNED_DEGREES

from vexkd_model.data.sweeps import read_lidar_file
from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes, Prediction
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.bags.view.command import main, write_view
from vexkd_ros.bags.view.students import ViewedStudent

BASE = "/odom/base_link"


def test_without_rerun_one_line_says_what_to_install_and_nothing_is_written(viewed_bags, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.delitem(sys.modules, "vexkd_ros.bags.view.rerun_file", raising=False)
    with pytest.raises(SystemExit, match=r"view\.rrd: .*; pip install --no-deps 'rerun-sdk>=0\.41' psutil$"):
        main([*map(str, viewed_bags), "--out", str(tmp_path / "view.rrd")])
    assert list(tmp_path.iterdir()) == []


def test_a_suffix_of_neither_viewer_is_refused(viewed_bags, tmp_path):
    with pytest.raises(SystemExit, match=re.escape("view.pdf: choose view.html, for a browser, or view.rrd")):
        main([*map(str, viewed_bags), "--out", str(tmp_path / "view.pdf")])


Rows = dict[str, dict[str, dict[int | None, list]]]  # by entity, component and stamp [ns], None for what stays


def read_back(path: Path) -> Rows:
    from rerun.chunk import RrdReader

    rows: Rows = defaultdict(lambda: defaultdict(dict))
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        stamps = batch["stamp"].cast("int64").to_pylist() if "stamp" in batch.schema.names else [None] * batch.num_rows
        for name in batch.schema.names:
            if ":" in name:
                for stamp, value in zip(stamps, batch[name].to_pylist(), strict=True):
                    if value is not None:
                        rows[chunk.entity_path][name][stamp] = value
    return rows


@pytest.fixture(scope="module")
def path(viewed_bags: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed here")
    path = tmp_path_factory.mktemp("rerun") / "view.rrd"
    assert write_view(path, viewed_bags) == 3
    return path


@pytest.fixture(scope="module")
def rows(path: Path) -> Rows:
    return read_back(path)


def test_stamps_are_those_of_the_keyframes(rows, tiny_index):
    assert sorted(rows[BASE]["Transform3D:translation"]) == [record.stamp_ns for record in tiny_index]


def test_true_boxes_stand_where_the_dataset_says(rows, tiny_index):
    for record in tiny_index:
        boxes = {name: found[record.stamp_ns] for name, found in rows[f"{BASE}/truth/boxes"].items()}
        assert boxes["Boxes3D:labels"] == [DETECTION_CLASSES[label] for label in record.boxes.labels]
        np.testing.assert_allclose(boxes["Boxes3D:centers"], record.boxes.values[:, :3], atol=1e-3)
        np.testing.assert_allclose(boxes["Boxes3D:half_sizes"], record.boxes.values[:, 3:6] / 2, atol=1e-3)
        for (x, y, z, w), yaw in zip(boxes["Boxes3D:quaternions"], record.boxes.values[:, 6], strict=True):
            ahead = Quaternion(w, x, y, z).rotate([1.0, 0.0, 0.0])
            np.testing.assert_allclose(ahead, [np.cos(yaw), np.sin(yaw), 0], atol=1e-3)


def test_found_boxes_have_their_scores_and_headings(rows, tiny_index):
    for record in tiny_index:
        boxes = {name: found[record.stamp_ns] for name, found in rows[f"{BASE}/student_node/boxes"].items()}
        name = DETECTION_CLASSES[record.boxes.labels[0]]
        assert boxes["Boxes3D:labels"] == [f"{name} 0.80", "car 0.40"]
        x, y, z, w = boxes["Boxes3D:quaternions"][0]
        turned = Quaternion(w, x, y, z) * Quaternion(axis=(0, 0, 1), radians=record.boxes.values[0, 6]).inverse
        assert abs(turned.yaw_pitch_roll[0]) == pytest.approx(np.radians(TURNED_DEGREES), abs=1e-3)


def test_points_stand_where_the_lidar_saw_them(rows, tiny_index):
    for record in tiny_index:
        points = read_lidar_file(record.sweeps[0].path)[:, :3]
        # LIDAR_TOP of the tiny dataset is turned by −90°
        expected = np.column_stack([points[:, 1], -points[:, 0], points[:, 2]]) + LIDAR_XYZ
        shown = rows[f"{BASE}/points"]["Points3D:positions"][record.stamp_ns]
        np.testing.assert_allclose(shown, expected, atol=1e-4)


def test_images_are_the_bag_s_own_bytes_and_their_pinholes_see_what_was_ahead(rows, viewed_bags, tiny_index):
    with open_bag(viewed_bags[1]) as bag:
        wanted = [connection for connection in bag.connections if connection.topic == "/eye/image/compressed"]
        recorded = [
            bag_typestore().deserialize_cdr(data, connection.msgtype).data.tobytes()
            for connection, _, data in bag.messages(wanted)
        ]
    camera = rows[f"{BASE}/cameras/eye"]
    for i in range(2):  # no sweep follows the last keyframe
        stamp = tiny_index[i].stamp_ns
        assert bytes(camera["EncodedImage:blob"][stamp][0]) == recorded[i]
        assert camera["Pinhole:resolution"][stamp] == [list(SIZE)]
        assert camera["Pinhole:image_plane_distance"][stamp] == [1.0]  # or else images hide what is near
        k = np.reshape(camera["Pinhole:image_from_camera"][stamp][0], (3, 3)).T  # columns come first
        assert k.tolist() == [[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]]


def test_cameras_stand_where_they_were_when_they_looked(rows, tiny_index, viewed_bags):
    """In odom, base_link at the moment and the camera in it make the mount at the image's own stamp."""
    with open_bag(viewed_bags[0]) as bag:
        wanted = [connection for connection in bag.connections if connection.topic == "/tf"]
        poses = {}
        for connection, _, data in bag.messages(wanted):
            for stamped in bag_typestore().deserialize_cdr(data, connection.msgtype).transforms:
                stamp = stamped.header.stamp.sec * 10**9 + stamped.header.stamp.nanosec
                t, q = stamped.transform.translation, stamped.transform.rotation
                poses[stamp] = np.array([t.x, t.y, t.z]), Quaternion(q.w, q.x, q.y, q.z)
    for i in range(2):
        stamp = tiny_index[i].stamp_ns
        base, camera = (
            (np.ravel(rows[place]["Transform3D:translation"][stamp]), matrix(rows[place], stamp))
            for place in (BASE, f"{BASE}/cameras/eye")
        )
        translation, rotation = poses[stamp + LATER_NS]
        mounted = translation + rotation.rotate(np.array([1.7, 0.0, 1.5]))  # CAM_FRONT of the tiny dataset
        np.testing.assert_allclose(base[1] @ camera[0] + base[0], mounted, atol=1e-3)
        ahead = (base[1] @ camera[1])[:, 2]  # the third axis of an optical frame
        np.testing.assert_allclose(ahead, rotation.rotate([1.0, 0.0, 0.0]), atol=1e-3)


def matrix(entity: dict, stamp: int) -> np.ndarray:
    return np.reshape(entity["Transform3D:mat3x3"][stamp][0], (3, 3)).T  # columns come first


def test_the_trajectory_goes_through_the_vehicle_s_poses(rows, tiny_index):
    way = rows["/odom/trajectory"]["LineStrips3D:strips"][None]
    assert len(way) == 1
    stamps = [record.stamp_ns for record in tiny_index]
    places = [np.ravel(rows[BASE]["Transform3D:translation"][stamp]) for stamp in stamps]
    np.testing.assert_allclose(way[0], places, atol=1e-3)
    assert np.linalg.norm(np.diff(way[0], axis=0), axis=1).min() > 0.5  # at 8 m/s, 0.15 s apart


def test_thresholds_maps_velocities_and_latencies_of_a_student(viewed_bags, tiny_index, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed here")
    values = np.array([[10, 5, 1, 4, 2, 1.5, 0.3, 3, -1], [20, 0, 1, 4, 2, 1.5, 0, np.nan, np.nan]])
    boxes = Boxes(np.vstack([values, values[:1]]), np.array([0, 8, 8]))
    grid, probabilities = BevGrid(-6, 6, -4, 4, 2.0), np.zeros((len(MAP_CLASSES), 4, 6), np.float32)
    probabilities[2, 0, 5] = 1  # walkway in front at the right, where y is least
    first, second, third = (record.stamp_ns for record in tiny_index)
    thresholds = np.full(len(DETECTION_CLASSES), 0.5)
    thresholds[8] = 0.2
    predictions = {
        first: Prediction(boxes, np.array([0.6, 0.3, 0.1], np.float32), probabilities, grid, first),
        third: Prediction(boxes, np.array([0.4, 0.3, 0.1], np.float32), None, None, third),
    }
    student = ViewedStudent("two/words", thresholds, predictions, {first: 12.5})
    write_view(tmp_path / "view.rrd", viewed_bags, nodes=[], students=[student, student])
    rows = read_back(tmp_path / "view.rrd")
    place = rf"{BASE}/two\/words"
    assert rows[f"{place}/boxes"]["Boxes3D:labels"] == {
        first: ["car 0.60", "pedestrian 0.30"],
        third: ["pedestrian 0.30"],
    }
    assert rows[f"{place}/velocities"]["Arrows3D:vectors"] == {first: [[3, -1, 0]], third: []}
    assert rows[place]["Clear:is_recursive"] == {second: [True]}
    assert rows[r"/latency/two\/words"]["Scalars:scalars"] == {first: [12.5]}
    drawn = rows[f"{place}/map"]
    picture = np.frombuffer(bytes(drawn["GridMap:data"][first][0]), np.uint8).reshape(4, 6, 4)
    assert drawn["GridMap:cell_size"][first] == [2.0]
    assert drawn["GridMap:opacity"][first][0] < 1  # the viewer draws opaque maps without transparent cells
    assert np.allclose(drawn["GridMap:translation"][first][0][:2], [-6, -4])
    # Its lower left corner lies there, and the first row of a picture is the upper one.
    assert picture[3, 5].tolist() == [*MAP_COLOURS["walkway"], 255] and picture[..., 3].sum() == 255
    assert drawn["Clear:is_recursive"].keys() == {third}
    assert rows[rf"{BASE}/two\/words\ 2/boxes"]["Boxes3D:labels"].keys() == {first, third}


def test_the_blueprint_shows_each_student_beside_the_cameras(path):
    from rerun.chunk import RrdReader

    reader = RrdReader(path)
    (blueprint,) = reader.blueprints()
    names = [
        name
        for chunk in reader.stream(store=blueprint)
        if "ViewBlueprint:display_name" in (batch := chunk.to_record_batch()).schema.names
        for row in batch["ViewBlueprint:display_name"].to_pylist()
        for name in row
    ]
    assert sorted(names) == ["cam_front", "eye", "student_node"]

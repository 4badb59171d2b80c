"""`bag_view`: what is in the bags stands in the page, at its place."""

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from nuscenes.eval.common.utils import angle_diff
from PIL import Image
from pyquaternion import Quaternion
from rosbags.rosbag2 import Reader
from support.rig import LIDAR_XYZ
from support.tiny_nuscenes import write_tiny_nuscenes
from support.viewed_bags import LATER_NS, TURNED_DEGREES, detection, header

from vexkd_model.config import load_config
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.sweeps import read_lidar_file
from vexkd_model.deploy.package import save_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.evaluation.matching import within_range
from vexkd_model.model import build_model
from vexkd_model.types import DETECTION_CLASSES, Boxes
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.bags.view.command import main, write_view
from vexkd_ros.bags.view.document import heading_error, make_document
from vexkd_ros.bags.view.recording import GROUND_TRUTH, Moment, Recording
from vexkd_ros.bags.writing import BagFormat

REPOSITORY = Path(__file__).parents[3]
MOUNT = ((1.7, 0.0, 1.5), Quaternion(0.5, -0.5, 0.5, -0.5))  # of CAM_FRONT in the tiny dataset
BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)


@pytest.fixture(scope="module")
def page(viewed_bags: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "view.html"
    assert write_view(path, viewed_bags) == 3
    return path


def shown(page: Path) -> dict:
    return json.loads(
        re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL).group(1)
    )


@pytest.fixture(scope="module")
def data(page: Path) -> dict:
    return shown(page)


def test_the_page_asks_for_nothing_from_anywhere(page):
    assert not re.search(r"https?://|<link|src=|@import|fetch\(", page.read_text())


def test_annotated_boxes_stand_where_the_dataset_says(data, tiny_index):
    assert [frame["scene"] for frame in data["frames"]] == ["scene-0103"] * 3
    for i, frame in enumerate(data["frames"]):
        boxes = tiny_index[i].boxes
        assert [box["class"] for box in frame["truth"]] == [DETECTION_CLASSES[label] for label in boxes.labels]
        shown = np.array([box["values"][:7] for box in frame["truth"]])
        assert np.abs(shown[:, :6] - boxes.values[:, :6]).max() < 2e-3


def test_seconds_count_from_the_beginning_of_each_bag():
    box = detection(0, np.array([5, 0, 1, 4, 2, 1.5, 0]), 0, 1.0)
    truth = bag_typestore().types["vision_msgs/msg/Detection3DArray"](header(0, "base_link"), [box])
    moments = [
        Moment(stamp, bag, {GROUND_TRUTH: truth}) for stamp, bag in ((10**9, "a"), (2 * 10**9, "a"), (10**12, "b"))
    ]
    frames = make_document("both", Recording((), "/lidar/points", {}, moments), [])["frames"]
    assert [frame["seconds"] for frame in frames] == [0, 1, 0]


def test_points_stand_where_the_lidar_saw_them(data, tiny_index):
    sweep = tiny_index[0].sweeps[0]
    points = read_lidar_file(sweep.path)[:, :3]
    # LIDAR_TOP of the tiny dataset is turned by −90°
    expected = np.column_stack([points[:, 1], -points[:, 0], points[:, 2]]) + LIDAR_XYZ
    shown = np.frombuffer(base64.b64decode(data["frames"][0]["points"]), "<i2").reshape(-1, 3) / 100
    assert shown.shape == expected.shape and np.abs(shown - expected).max() <= 0.0051


def test_a_detection_on_an_object_hits_it_and_one_beside_everything_does_not(data):
    assert data["students"] == ["student_node"]
    for frame in data["frames"]:
        (answer,) = frame["answers"]
        found = [(round(box["score"], 6), box["hit"], box["turned"]) for box in answer["found"]]
        assert found == [(0.8, 0, pytest.approx(TURNED_DEGREES, abs=0.1)), (0.4, -1, None)]


def test_headings_are_compared_as_the_devkit_does():
    def turned(name: str, degrees: float) -> float | None:
        label = np.array([DETECTION_CLASSES.index(name)])
        boxes = [
            Boxes(np.array([[0, 0, 0, 4, 2, 1, yaw, 0, 0]]), label)
            for yaw in (np.radians(degrees - 170), -170 * np.pi / 180)
        ]
        return heading_error(boxes[0], 0, boxes[1], 0)

    for name, period in (("car", 2 * np.pi), ("barrier", np.pi)):
        devkit = abs(np.degrees(angle_diff(np.radians(30), np.radians(-170), period)))
        assert turned(name, 200) == pytest.approx(devkit, abs=0.1)
    assert turned("traffic_cone", 200) is None


def test_points_inside_annotated_boxes_are_counted(data, tiny_index):
    for i, frame in enumerate(data["frames"]):
        points = tiny_index[i].load_points(sweeps=1)
        for shown, box in zip(frame["truth"], tiny_index[i].boxes.values, strict=True):
            local = (points[:, :3] - box[:3]) @ np.array(
                [[np.cos(box[6]), -np.sin(box[6]), 0], [np.sin(box[6]), np.cos(box[6]), 0], [0, 0, 1]]
            )
            assert shown["points"] == (np.abs(local) <= box[3:6] / 2).all(axis=1).sum()


def test_what_was_ahead_of_the_camera_when_it_looked_is_in_the_middle_of_its_picture(data, tiny_dataset, tiny_index):
    """Though the vehicle has driven on between the LiDAR's stamp and the camera's."""
    poses = {pose["timestamp"]: pose for pose in json.loads((tiny_dataset / "v1.0-mini/ego_pose.json").read_text())}
    for i, frame in enumerate(data["frames"][:2]):  # no sweep follows the last keyframe
        (camera,) = (camera for camera in frame["cameras"] if camera["name"] == "eye")
        assert (camera["width"], camera["height"]) == (640, 360)
        stamp_us = tiny_index[i].stamp_ns // 1000
        then, now = poses[stamp_us + LATER_NS // 1000], poses[stamp_us]
        ahead = np.array(MOUNT[0]) + MOUNT[1].rotate([0.0, 0.0, 20.0])
        world = Quaternion(then["rotation"]).rotate(ahead) + then["translation"]
        in_base = Quaternion(now["rotation"]).inverse.rotate(world - now["translation"])
        u, v, depth = np.array(camera["projection"]).reshape(3, 4) @ [*in_base, 1]
        assert (u / depth, v / depth, depth) == pytest.approx((320, 180, 20), abs=0.1)


def test_large_pictures_become_small_ones_and_stay_what_they_are(data):
    url = next(camera["url"] for camera in data["frames"][0]["cameras"] if camera["name"] == "eye")
    image = Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2])))
    assert image.size == (640, 360)
    assert np.abs(np.array(image.convert("RGB")).mean((0, 1)) - (200, 30, 30)).max() < 4


def test_the_transforms_of_one_robot_of_several_are_found_by_name(viewed_bags, data, tmp_path):
    robots = tmp_path / "robots"
    with Reader(viewed_bags[0]) as reader, BagFormat().writer(robots) as writer:
        connections = {
            c.id: BagFormat().add_topic(
                writer,
                f"/robot1{c.topic}" if c.topic.startswith("/tf") else c.topic,
                c.msgtype,
                c.ext.offered_qos_profiles[0],
            )
            for c in reader.connections
        }
        for connection, stamp, content in reader.messages():
            writer.write(connections[connection.id], stamp, content)
    assert main([str(robots), str(viewed_bags[1]), "--out", str(tmp_path / "view.html"), "--tf", "/robot1/tf"]) == 0
    assert [frame["points"] for frame in shown(tmp_path / "view.html")["frames"]] == [
        frame["points"] for frame in data["frames"]
    ]


def test_fewer_moments_are_evenly_chosen(viewed_bags, tmp_path, capsys):
    assert main([*map(str, viewed_bags), "--out", str(tmp_path / "few.html"), "--moments", "2"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'few.html'}: 2 moments, ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--node", "/other"], "--node /other: published nothing here; there is /student_node"),
        (["--points", "/other/points"], "--points /other/points: no point clouds of that name; there is /lidar/points"),
        (["--student", "nowhere"], "nowhere: no such student package"),
    ],
)
def test_a_wrong_name_is_one_line_and_leaves_no_page(viewed_bags, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        main([*map(str, viewed_bags), "--out", str(tmp_path / "view.html"), *arguments])
    assert list(tmp_path.iterdir()) == []


def test_clouds_without_a_place_are_said_and_the_rest_is_shown(viewed_bags, tmp_path, capsys):
    assert main([*map(str, viewed_bags), "--out", str(tmp_path / "view.html"), "--tf", "/robot1/tf"]) == 0
    assert "/lidar/points: no static transform leads from its frame" in capsys.readouterr().err
    page = shown(tmp_path / "view.html")
    assert "no static transform" in page["notes"][0] and page["frames"][0]["points"] == ""
    assert page["frames"][0]["truth"][0]["points"] is None  # not: no point in it


def test_packages_predict_on_the_bags_what_they_predict_on_the_dataset(viewed_bags, tiny_index, tmp_path):
    config = load_config(REPOSITORY / "config" / "model" / "lidar_pillar_small.yaml")
    save_package(tmp_path / "student", build_model(config), config, trained_on={}, metrics={}, source_revision="test")
    arguments = [*map(str, viewed_bags), "--out", str(tmp_path / "view.html"), "--student", str(tmp_path / "student")]
    assert main(arguments) == 0
    page = shown(tmp_path / "view.html")
    assert page["students"] == ["student_node", "student"]
    predictor = Predictor.load(tmp_path / "student", runtime="auto", precision="auto")
    for i, frame in enumerate(page["frames"]):
        expected = predictor.predict(load_frame(tiny_index, i, predictor.config))
        near = within_range(expected.boxes)
        found = frame["answers"][1]["found"]
        assert [box["class"] for box in found] == [DETECTION_CLASSES[label] for label in expected.boxes.labels[near]]
        np.testing.assert_allclose([box["score"] for box in found], expected.scores[near], atol=1e-3)
        assert frame["answers"][1]["latency_ms"] > 0 and frame["answers"][1]["map"]


def browse(page: Path, script: str = "", width: int = 1280) -> str:
    """Open a page in a real browser, run a script in it, and return the text of what it then shows."""
    acted = page.with_name(f"acted-{page.name}")
    acted.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=3000",
            f"--window-size={width},800",
            "--dump-dom",
            f"{acted.as_uri()}#1",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)


POINT_AT = """
const canvas = document.querySelector("canvas"), area = canvas.getBoundingClientRect();
const [x, y] = place(canvas, BOX_X, BOX_Y).map(value => value / devicePixelRatio);
canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: area.left + x, clientY: area.top + y}));
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to open the page with")
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_a_browser_shows_it(page, width):
    text = browse(page, width=width)
    assert "2 detections, 1 hits (1 turned), 1 false alarms" in text
    assert "moment 2 of 3" in text and 'id="camera-eye"' in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to open the page with")
def test_in_a_browser_a_threshold_hides_and_a_pointer_asks(page, tiny_index):
    text = browse(page, "$('threshold').value = 0.9; $('threshold').oninput();")
    assert "0 detections, 0 hits, 0 false alarms" in text
    own = "data.thresholds = [Object.fromEntries(Object.keys(data.class_colours).map(name => [name, 0.5]))];"
    text = browse(page, f"{own} draw();")
    assert "1 detections, 1 hits (1 turned), 0 false alarms" in text
    text = browse(page, f"{own} $('threshold').value = 0.3; $('threshold').oninput();")
    assert "2 detections" in text
    text = browse(page, "dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));")
    assert "moment 3 of 3" in text
    x, y = map(str, tiny_index[1].boxes.values[0, :2])
    text = browse(page, POINT_AT.replace("BOX_X", x).replace("BOX_Y", y))
    assert "hit, but turned" in text and "heading off by 40°" in text


def test_boxes_of_a_model_in_the_place_of_true_ones_are_told_apart(tmp_path):
    dataroot = write_tiny_nuscenes(tmp_path / "data")
    path = dataroot / "v1.0-mini" / "sample_annotation.json"
    rows = json.loads(path.read_text())
    made = {row["token"] for row in rows[::2]}
    path.write_text(json.dumps([row | ({"score": 0.6} if row["token"] in made else {}) for row in rows]))
    write_view(tmp_path / "view.html", convert(dataroot, "v1.0-mini", tmp_path / "bags")[:1])
    data = shown(tmp_path / "view.html")
    found = {box["made"] for frame in data["frames"] for box in frame["truth"]}
    assert found == {True, False} and any("A model made boxes" in note for note in data["notes"])

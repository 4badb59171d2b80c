"""The doctor on bags: silent on a healthy one, and each fault that is put into it is named."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rosbags.interfaces import Qos, QosDurability
from rosbags.rosbag2 import Reader
from support.spoilt_bags import (
    black,
    dimmed,
    later,
    nameless,
    of,
    of_four_to_three,
    points_changed,
    renamed,
    rewritten,
    truncated,
    unstamped,
    vars_of,
    wide,
    without_transforms,
)

from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.package import save_package
from vexkd_model.model import build_model
from vexkd_model.sensor_check.measure_split import measure_inputs
from vexkd_model.synth import synthesise
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.scene.messages import header
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.bags.writing import BagFormat
from vexkd_ros.doctor.command import main

REPOSITORY = Path(__file__).parents[3]
SHIPPED = REPOSITORY / "models" / "lidar_distilled"
VERSION, SCENE = "v1.0-trainval", "scene-0003"
CLOUD = "sensor_msgs/msg/PointCloud2"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> FrameIndex:
    """A synthetic scene of six keyframes, nine sweeps each, of a seed that the shipped student never saw."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("scene")
    synthesise(root / "data", "bench-small", 43, scenes=[SCENE])
    prepare(root / "data", VERSION, root / "index", ["val"])
    torch.set_num_threads(threads)
    return FrameIndex.open(root / "index", "val")


@pytest.fixture(scope="module")
def bag(scene: FrameIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As nuscenes_to_bag writes it."""
    return convert(scene.dataroot, VERSION, tmp_path_factory.mktemp("bag"))[0]


@pytest.fixture(scope="module")
def lidar_bag(scene: FrameIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its clouds and transforms alone."""
    return convert(
        scene.dataroot,
        VERSION,
        tmp_path_factory.mktemp("lidar_bag"),
        selection=Selection(topics=("/lidar/points", "/tf*")),
    )[0]


@pytest.fixture(scope="module")
def camera_student(scene: FrameIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn, not trained; its card knows the scene's cameras."""
    config = load_config(REPOSITORY / "config" / "model" / "bevdet_small.yaml")
    folder = tmp_path_factory.mktemp("students") / "cameras"
    save_package(folder, build_model(config), config, {}, {}, "test", measure_inputs(scene, config))
    return folder


def diagnosed(bag: Path, tmp_path: Path, *options: object) -> tuple[int, list[tuple[str, str, str]]]:
    """The exit code, and (level, about, text) of every finding."""
    code = main(["--bag", str(bag), "--json", str(tmp_path / "findings.json"), *map(str, options)])
    found = json.loads((tmp_path / "findings.json").read_text())["findings"]
    return code, [(one["level"], one["about"], one["text"]) for one in found]


def wrong(findings: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(level, about) for level, about, _ in findings if level != "ok"]


def test_a_bag_of_nuscenes_to_bag_fits_the_shipped_student(bag: Path, tmp_path: Path) -> None:
    code, findings = diagnosed(bag, tmp_path, "--student", SHIPPED)
    assert code == 0
    assert not wrong(findings)
    assert ("ok", "sensor fit, lidar") in [(level, about) for level, about, _ in findings]
    assert ("ok", "odom → base_link") in [(level, about) for level, about, _ in findings]


def test_the_six_cameras_of_a_bag_fit_the_student_that_knows_them(
    bag: Path, camera_student: Path, tmp_path: Path
) -> None:
    code, findings = diagnosed(bag, tmp_path, "--student", camera_student)
    assert (code, wrong(findings)) == (0, [])
    assert sum(about.startswith("sensor fit, CAM_") for _, about, _ in findings) == 6
    assert not any("/lidar/points" in about for _, about, _ in findings)


def test_nothing_is_wrong_with_a_bag_of_one_keyframe(scene: FrameIndex, camera_student: Path, tmp_path: Path) -> None:
    """It is too short to tell a rate, or to compare sensors with those of a training; that is no fault of them."""
    moment = convert(scene.dataroot, VERSION, tmp_path, selection=Selection(keyframes_only=True, end_s=0.7))[0]
    for options in ((), ("--student", SHIPPED), ("--student", camera_student)):
        code, findings = diagnosed(moment, tmp_path, *options)
        assert (code, wrong(findings)) == (0, []), findings


def test_nothing_is_wrong_with_the_keyframe_of_nuscenes(keyframe_dataroot: Path, tmp_path: Path) -> None:
    moment = convert(keyframe_dataroot, "v1.0-mini", tmp_path)[0]
    for options in ((), ("--student", SHIPPED), ("--student", SHIPPED.with_name("camera_distilled"))):
        code, findings = diagnosed(moment, tmp_path, *options)
        assert (code, wrong(findings)) == (0, []), findings


def test_without_a_student_every_sensor_of_the_bag_is_examined(bag: Path, tmp_path: Path) -> None:
    code, findings = diagnosed(bag, tmp_path)
    topics = {about for _, about, _ in findings}
    assert code == 0 and {"/lidar/points", "/cam_front/camera_info", "/cam_back/image/compressed"} <= topics
    assert not any(about.startswith("sensor fit") for about in topics)


@pytest.mark.parametrize(
    ("change", "about", "level", "said"),
    [
        (points_changed(dimmed), "sensor fit, lidar", "fail", "let the driver publish 0 … 255"),
        (points_changed(lambda points: points[points["ring"] % 2 == 0]), "sensor fit, lidar", "fail", "about 16 beams"),
        (of("/lidar/points", renamed), "/lidar/points", "warn", "no field intensity, only x, y, z, reflectivity, ring"),
        (of("/lidar/points", unstamped), "/lidar/points", "fail", "every stamp is 0: set header.stamp in the driver"),
        (of("/lidar/points", nameless), "/lidar/points", "fail", "no frame_id: set it in the driver"),
        (of("/lidar/points", lambda message: None), "/lidar/points", "fail", "no message in the first"),
        (without_transforms({"lidar_top"}), "base_link → lidar_top", "fail", "/tf_static names lidar_top"),
        (without_transforms({"base_link"}), "odom → base_link", "warn", "only the newest sweep is used"),
    ],
    ids=[
        "intensity to 1",
        "half the beams",
        "no intensity",
        "no stamps",
        "no frame",
        "silent",
        "no mounting",
        "no odometry",
    ],
)
def test_a_fault_of_the_lidar_is_named(
    bag: Path, tmp_path: Path, change: Callable, about: str, level: str, said: str
) -> None:
    code, findings = diagnosed(rewritten(bag, tmp_path / "sick", change), tmp_path, "--student", SHIPPED)
    assert any((level, about) == found[:2] and said in found[2] for found in findings), findings
    assert code == (1 if any(found[0] == "fail" for found in findings) else 0)


def test_transforms_at_two_a_second_are_known_at_few_stamps_of_a_20_hz_lidar(bag: Path, tmp_path: Path) -> None:
    keyframes: list[int] = []

    def thinned(topic: str, message: object) -> object:
        if topic == "/tf":
            stamp = message.transforms[0].header.stamp
            second = (stamp.sec * 10**9 + stamp.nanosec) // 10**9
            if second in keyframes:
                return None
            keyframes.append(second)
        return message

    code, findings = diagnosed(rewritten(bag, tmp_path / "sick", thinned), tmp_path, "--student", SHIPPED)
    (text,) = [text for level, about, text in findings if (level, about) == ("warn", "odom → base_link")]
    assert code == 0 and text.startswith("known at ") and "without it only the newest sweep is used" in text


def test_static_transforms_that_are_not_latched_are_named(bag: Path, tmp_path: Path) -> None:
    def volatile(topic: str, qos: Qos) -> Qos:
        return Qos(**{**vars_of(qos), "durability": QosDurability.VOLATILE}) if topic == "/tf_static" else qos

    code, findings = diagnosed(rewritten(bag, tmp_path / "sick", quality=volatile), tmp_path)
    assert code == 1
    assert ("fail", "/tf_static") in wrong(findings)


def transform(parent: str, child: str, stamp_ns: int, x: float) -> object:
    types = bag_typestore().types
    pose = types["geometry_msgs/msg/Transform"](
        types["geometry_msgs/msg/Vector3"](x, 0.0, 1.8), types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    return types["tf2_msgs/msg/TFMessage"](
        [types["geometry_msgs/msg/TransformStamped"](header(stamp_ns, parent), child, pose)]
    )


def test_publishers_of_transforms_that_contradict_one_another_are_named_with_frames_and_amounts(
    lidar_bag: Path, tmp_path: Path
) -> None:
    with open_bag(lidar_bag) as reader:
        half, tf = reader.start_time + reader.duration // 2, "tf2_msgs/msg/TFMessage"
    sick = rewritten(
        lidar_bag,
        tmp_path / "sick",
        added=[
            ("/tf_static", tf, half, transform("base_link", "lidar_top", half, 3.0)),
            ("/tf", tf, half, transform("map", "base_link", half, 3.0)),
        ],
    )
    _, findings = diagnosed(sick, tmp_path, "--student", SHIPPED)
    for said in (
        "two transforms base_link → lidar_top on /tf_static differ by 2.",
        "base_link has two parents on /tf, odom and map; odom is used: let only one node publish base_link",
    ):
        assert any(found[:2] == ("warn", "/tf") and said in found[2] for found in findings), findings


def test_how_far_a_stamp_is_ahead_of_the_transforms_is_said(lidar_bag: Path, tmp_path: Path) -> None:
    def early(message: Any) -> Any:
        for one in message.transforms:
            one.header.stamp.sec -= 36
        return message

    _, findings = diagnosed(rewritten(lidar_bag, tmp_path / "sick", of("/tf", early)), tmp_path, "--student", SHIPPED)
    (text,) = (text for level, about, text in findings if (level, about) == ("warn", "odom → base_link"))
    assert re.search(r"is 3\d\.\d+ s beyond the newest", text), text


def test_damaged_messages_are_counted_and_the_others_examined(lidar_bag: Path, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    with Reader(lidar_bag) as reader, BagFormat().writer(sick) as writer:
        connections = {
            c.id: BagFormat().add_topic(writer, c.topic, c.msgtype, c.ext.offered_qos_profiles[0])
            for c in reader.connections
        }
        count = Counter()
        for connection, stamp, data in reader.messages():
            number = count[connection.topic]
            count[connection.topic] += 1
            if connection.topic == "/lidar/points" and number % 3 == 0:
                before_1970 = data[:4] + (-37).to_bytes(4, "little", signed=True) + data[8:]
                data = data[:9] if number % 2 else before_1970
            if connection.topic == "/tf" and number % 10 == 0:
                data = data[:40]
            writer.write(connections[connection.id], stamp, data)
    code, findings = diagnosed(sick, tmp_path, "--student", SHIPPED)
    assert code == 0, findings
    for about, said in (
        ("/lidar/points", "could not be read, shorter than its header"),
        ("/tf", "is no TFMessage"),
        ("/lidar/points", "could not be read, its stamp lies before 1970"),
    ):
        assert any(found[:2] == ("warn", about) and said in found[2] for found in findings), findings


def test_a_replay_that_would_lose_static_transforms_is_named(bag: Path, tmp_path: Path) -> None:
    """Several broadcasters, recorded with the history of one."""
    with open_bag(bag) as reader:
        (static,) = (connection for connection in reader.connections if connection.topic == "/tf_static")
        ((_, start, data),) = reader.messages([static])
        message = bag_typestore().deserialize_cdr(data, static.msgtype)

    def without_the_one_of_all(topic: str, message: Any) -> Any:
        return None if topic == "/tf_static" and len(message.transforms) > 1 else message

    others = [type(message)([one]) for one in message.transforms]
    alone = rewritten(
        bag,
        tmp_path / "alone",
        without_the_one_of_all,
        added=[("/tf_static", static.msgtype, start + i, one) for i, one in enumerate(others)],
    )
    for depth, losses in ((1, len(others) - 1), (0, max(len(others) - 10, 0)), (len(others), 0)):  # 0: of Humble
        copy = rewritten(
            alone,
            tmp_path / f"depth{depth}",
            quality=lambda topic, qos, depth=depth: qos._replace(depth=depth) if topic == "/tf_static" else qos,
        )
        found = [text for _, about, text in diagnosed(copy, tmp_path)[1] if about == "/tf_static"]
        assert len(found) == (losses > 0), found
        assert not losses or found[0].split("loses ")[1].split(" for nodes")[0].count(",") == losses - 1


def test_the_transforms_of_one_robot_of_several_are_looked_at_by_name(bag: Path, tmp_path: Path) -> None:
    robots = tmp_path / "robots"
    with open_bag(bag) as reader, BagFormat().writer(robots) as writer:
        connections = {
            c.id: BagFormat().add_topic(
                writer,
                f"/robot1{c.topic}" if c.topic.startswith("/tf") else c.topic,
                c.msgtype,
                c.ext.offered_qos_profiles[0],
            )
            for c in reader.connections
        }
        for connection, stamp, data in reader.messages():
            writer.write(connections[connection.id], stamp, data)
    code, findings = diagnosed(robots, tmp_path, "--student", SHIPPED)
    assert code == 1
    (told,) = (text for _, about, text in findings if about == "/tf")
    assert "transforms on /robot1/tf" in told and "-r /tf:=/robot1/tf -r /tf_static:=/robot1/tf_static" in told
    assert diagnosed(robots, tmp_path, "--student", SHIPPED, "--tf", "/robot1/tf") == diagnosed(
        bag, tmp_path, "--student", SHIPPED
    )


def test_a_single_file_that_was_cut_is_examined_and_said_to_be_cut(bag: Path, tmp_path: Path) -> None:
    file = tmp_path / "drive.mcap"
    data = next(bag.glob("*.mcap")).read_bytes()
    file.write_bytes(data[:-100])
    code, findings = diagnosed(file, tmp_path, "--student", SHIPPED)
    assert code == 0
    assert [found[:2] for found in findings if "ends within a record" in found[2]] == [("warn", str(file))]


@pytest.mark.parametrize(
    ("change", "about", "level", "said"),
    [
        (of("/cam_back/camera_info", wide), "sensor fit, CAM_BACK", "fail", "correct CameraInfo"),
        (of("/cam_back/camera_info", of_four_to_three), "/cam_back/image/compressed", "fail", "another shape"),
        (of("/cam_back/image/compressed", black), "sensor fit, CAM_BACK", "fail", "uncover the lens"),
        (of("/cam_back/image/compressed", truncated), "/cam_back/image/compressed", "fail", "the image is truncated"),
        (
            of("/cam_back/image/compressed", lambda message: None),
            "cameras",
            "warn",
            "5 of the student's 6, without CAM_B",
        ),
        (of("/cam_back/camera_info", lambda message: None), "/cam_back/camera_info", "fail", "no message in the first"),
        (of("/cam_back/image/compressed", later), "/cam_back/image/compressed", "warn", "trigger them together"),
    ],
    ids=["wide", "4:3", "black", "truncated", "no images", "no CameraInfo", "late"],
)
def test_a_fault_of_a_camera_is_named(
    bag: Path, camera_student: Path, tmp_path: Path, change: Callable, about: str, level: str, said: str
) -> None:
    sick = rewritten(
        bag, tmp_path / "sick", lambda topic, message: None if topic == "/lidar/points" else change(topic, message)
    )
    code, findings = diagnosed(sick, tmp_path, "--student", camera_student)
    assert any((level, about) == found[:2] and said in found[2] for found in findings), findings
    assert code == (1 if any(found[0] == "fail" for found in findings) else 0)


def test_a_camera_under_another_name_is_found_where_it_is_said_to_be(
    bag: Path, camera_student: Path, tmp_path: Path, capsys
) -> None:
    code, findings = diagnosed(bag, tmp_path, "--student", camera_student, "--camera", "CAM_FRONT=cam_back")
    assert code == 1
    assert any(about == "sensor fit, CAM_FRONT" and "CAM_BACK looked there" in text for _, about, text in findings)
    with pytest.raises(SystemExit) as error:
        main(["--camera", "FRONT=/a"])
    assert error.value.code == 2 and "write NAME=PREFIX" in capsys.readouterr().err


def test_several_clouds_are_not_guessed_at(bag: Path, tmp_path: Path) -> None:
    types = bag_typestore().types
    other = types[CLOUD](header(1, "roof"), 1, 0, [], False, 16, 0, np.zeros(0, np.uint8), True)
    with Reader(bag) as reader:
        start = reader.start_time
    two = rewritten(bag, tmp_path / "two", added=[("/roof/points", CLOUD, start, other)])
    code, findings = diagnosed(two, tmp_path, "--student", SHIPPED)
    assert code == 1
    assert findings == [
        ("fail", "points", "/lidar/points, /roof/points are point clouds: choose the LiDAR's with --points")
    ]
    assert diagnosed(two, tmp_path, "--student", SHIPPED, "--points", "/lidar/points")[0] == 0


def test_a_bag_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as error:
        main(["--bag", str(tmp_path / "none")])
    assert error.value.code == f"vexkd-doctor: {tmp_path / 'none'}: no such bag"

"""Bags against an independent reader, the bytes of the dataset and the devkit's own geometry."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from pyquaternion import Quaternion
from rosbags.highlevel import AnyReader
from support.bag_content import messages_of, stamp_of
from support.clock import wait_for
from support.other_maker import NAMES, SCENES, VERSION, change_rows, write_other_dataset

from vexkd_model.errors import UserError
from vexkd_ros.bags.nuscenes_to_bag import convert, main
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.bags.writing import BagFormat

STORAGES = ("mcap", "sqlite3")


def lidar_chain(nusc: NuScenes) -> list[dict]:
    return sorted(
        (record for record in nusc.sample_data if record["channel"] == "LIDAR_TOP"),
        key=lambda record: record["timestamp"],
    )


def matrix_of(rotation: object, translation: object) -> np.ndarray:
    quaternion = Quaternion(rotation.w, rotation.x, rotation.y, rotation.z)
    matrix = quaternion.transformation_matrix
    matrix[:3, 3] = translation.x, translation.y, translation.z
    return matrix


def pose_matrix(record: dict) -> np.ndarray:
    matrix = Quaternion(record["rotation"]).transformation_matrix
    matrix[:3, 3] = record["translation"]
    return matrix


@pytest.fixture(
    scope="module",
    params=[(data, storage) for data in ("tiny", "real") for storage in STORAGES],
    ids=lambda pair: "-".join(pair),
)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[NuScenes, dict]:
    data, storage = request.param
    root = request.getfixturevalue("tiny_dataset" if data == "tiny" else "keyframe_dataroot")
    nusc = NuScenes("v1.0-mini", str(root), verbose=False)
    (bag,) = convert(root, "v1.0-mini", tmp_path_factory.mktemp("bags"), bag_format=BagFormat(storage))
    assert len(list(bag.glob("*.mcap" if storage == "mcap" else "*.db3"))) == 1
    return nusc, messages_of(bag)


def test_every_sweep_is_there_at_its_stamp_with_its_exact_points(converted: tuple[NuScenes, dict]) -> None:
    nusc, messages = converted
    sweeps, clouds = lidar_chain(nusc), messages["/lidar/points"]
    assert len(clouds) == len(sweeps)
    for sweep, (log_time, cloud) in zip(sweeps, clouds, strict=True):
        file = np.fromfile(Path(nusc.dataroot) / sweep["filename"], "<f4").reshape(-1, 5)
        read = np.frombuffer(cloud.data.tobytes(), [("xyzi", "<f4", 4), ("ring", "<u2")])
        assert log_time == stamp_of(cloud.header) == sweep["timestamp"] * 1000
        assert (cloud.header.frame_id, cloud.height, cloud.width) == ("lidar_top", 1, len(file))
        assert (cloud.point_step, cloud.row_step) == (18, 18 * len(file))
        assert [(field.name, field.offset, field.datatype, field.count) for field in cloud.fields] == [
            ("x", 0, 7, 1),
            ("y", 4, 7, 1),
            ("z", 8, 7, 1),
            ("intensity", 12, 7, 1),
            ("ring", 16, 4, 1),
        ]
        np.testing.assert_array_equal(read["xyzi"], file[:, :4])
        np.testing.assert_array_equal(read["ring"], file[:, 4])


def test_the_ego_poses_of_all_sensors_are_on_tf(converted: tuple[NuScenes, dict]) -> None:
    nusc, messages = converted
    expected = {}
    for record in nusc.sample_data:
        if record["channel"].startswith(("LIDAR", "CAM")):
            expected[record["timestamp"] * 1000] = pose_matrix(nusc.get("ego_pose", record["ego_pose_token"]))
    transforms = {stamp: message.transforms for stamp, message in messages["/tf"]}
    assert transforms.keys() == expected.keys()
    for stamp, (transform,) in transforms.items():
        assert (transform.header.frame_id, transform.child_frame_id) == ("odom", "base_link")
        assert stamp_of(transform.header) == stamp
        matrix = matrix_of(transform.transform.rotation, transform.transform.translation)
        np.testing.assert_allclose(matrix, expected[stamp], atol=1e-9)


def test_the_mounts_of_the_sensors_are_on_tf_static_before_anything_else(converted: tuple[NuScenes, dict]) -> None:
    nusc, messages = converted
    ((log_time, message),) = messages["/tf_static"]
    assert log_time == min(stamp for topic in messages.values() for stamp, _ in topic)
    mounts = {}
    for record in nusc.sample_data:
        if record["channel"].startswith(("LIDAR", "CAM")):
            mounts[record["channel"].lower()] = pose_matrix(
                nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
            )
    assert {transform.child_frame_id for transform in message.transforms} == mounts.keys()
    for transform in message.transforms:
        assert transform.header.frame_id == "base_link"
        np.testing.assert_allclose(
            matrix_of(transform.transform.rotation, transform.transform.translation),
            mounts[transform.child_frame_id],
            atol=1e-9,
        )


def test_ground_truth_in_base_link_is_where_the_devkit_puts_it_in_the_world(converted: tuple[NuScenes, dict]) -> None:
    nusc, messages = converted
    keyframes = [record for record in lidar_chain(nusc) if record["is_key_frame"]]
    assert [header.frame_id for _, header in messages["/keyframe"]] == [r["sample_token"] for r in keyframes]
    for keyframe, (stamp, array) in zip(keyframes, messages["/ground_truth"], strict=True):
        assert stamp == keyframe["timestamp"] * 1000
        global_from_base = pose_matrix(nusc.get("ego_pose", keyframe["ego_pose_token"]))
        boxes = {}
        for token in nusc.get("sample", keyframe["sample_token"])["anns"]:
            annotation = nusc.get("sample_annotation", token)
            if category_to_detection_name(annotation["category_name"]):
                boxes[annotation["instance_token"]] = nusc.get_box(token)
        assert {detection.id for detection in array.detections} == boxes.keys()
        for detection in array.detections:
            box, centre = boxes[detection.id], detection.bbox.center
            world = global_from_base @ matrix_of(centre.orientation, centre.position)
            np.testing.assert_allclose(world[:3, 3], box.center, atol=1e-6)
            np.testing.assert_allclose(world[:3, :3], box.rotation_matrix, atol=1e-9)
            size = detection.bbox.size
            np.testing.assert_allclose([size.y, size.x, size.z], box.wlh)
            assert detection.results[0].hypothesis.class_id == category_to_detection_name(box.name)


def test_odometry_speed_is_the_distance_driven_between_sweeps(tiny_dataset: Path, tmp_path: Path) -> None:
    nusc = NuScenes("v1.0-mini", str(tiny_dataset), verbose=False)
    (bag,) = convert(tiny_dataset, "v1.0-mini", tmp_path)
    odometry = [message for _, message in messages_of(bag)["/odom"]]
    positions = np.array(
        [nusc.get("ego_pose", record["ego_pose_token"])["translation"] for record in lidar_chain(nusc)]
    )
    driven = np.linalg.norm(positions[2:] - positions[:-2], axis=1) / 0.1
    speeds = [
        np.linalg.norm([m.twist.twist.linear.x, m.twist.twist.linear.y, m.twist.twist.linear.z]) for m in odometry[1:-1]
    ]
    np.testing.assert_allclose(speeds, driven, rtol=1e-9)
    turns = [message.twist.twist.angular.z for message in odometry]
    np.testing.assert_allclose(turns, 0.3, rtol=1e-3)  # the tiny world's curve


def test_messages_are_in_the_order_of_time_and_transforms_before_their_data(tiny_dataset: Path, tmp_path: Path) -> None:
    (bag,) = convert(tiny_dataset, "v1.0-mini", tmp_path)
    with AnyReader([bag]) as reader:
        order = [(stamp, connection.topic) for connection, stamp, _ in reader.messages()]
    assert [stamp for stamp, _ in order] == sorted(stamp for stamp, _ in order)
    for stamp in {stamp for stamp, topic in order if topic == "/lidar/points"}:
        topics = [topic for at, topic in order if at == stamp]
        assert topics.index("/tf") < topics.index("/lidar/points")


def test_a_killed_conversion_leaves_nothing_half_written_and_the_next_one_completes(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    # The first sweep becomes a pipe that nobody writes to, so that the kill surely comes in the middle of the bag.
    root = tmp_path / "data"
    subprocess.run(["cp", "-r", str(tiny_dataset), str(root)], check=True)
    last = sorted((root / "samples" / "LIDAR_TOP").iterdir())[-1]
    content = last.read_bytes()
    last.unlink()
    os.mkfifo(last)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vexkd_ros.bags.nuscenes_to_bag",
            str(root),
            "--version",
            "v1.0-mini",
            "--out",
            str(tmp_path / "bags"),
        ]
    )
    partial = tmp_path / "bags" / "scene-0103.partial"
    wait_for(lambda: any(partial.rglob("*.mcap")), "the beginning of a bag")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "bags" / "scene-0103").exists()

    last.unlink()
    last.write_bytes(content)
    (bag,) = convert(root, "v1.0-mini", tmp_path / "bags")
    assert len(messages_of(bag)["/lidar/points"]) == 9
    assert sorted(entry.name for entry in (tmp_path / "bags").iterdir()) == [".lock", "manifest.json", "scene-0103"]


def test_a_complete_bag_is_kept_and_one_of_another_dataset_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    (bag,) = convert(tiny_dataset, "v1.0-mini", tmp_path / "bags")
    written = (bag / "metadata.yaml").stat().st_mtime_ns
    convert(tiny_dataset, "v1.0-mini", tmp_path / "bags")
    assert (bag / "metadata.yaml").stat().st_mtime_ns == written

    other = tmp_path / "other"
    subprocess.run(["cp", "-r", str(tiny_dataset), str(other)], check=True)
    with pytest.raises(UserError, match=r"scene-0103: is a bag of .*tiny.*; choose another --out"):
        convert(other, "v1.0-mini", tmp_path / "bags")
    with pytest.raises(UserError, match=r"scene-0103: was written with other options .*; choose another --out"):
        convert(tiny_dataset, "v1.0-mini", tmp_path / "bags", selection=Selection(keyframes_only=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scenes", "scene-9999"], "--scenes scene-9999: not in"),
        (["--split", "mini_train"], "holds no scene of it; it has scene-0103"),
        (["--split", "nonsense"], "no split of that name"),
    ],
)
def test_a_choice_that_holds_nothing_is_one_line(
    tiny_dataset: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as error:
        main([str(tiny_dataset), "--version", "v1.0-mini", "--out", str(tmp_path), *options])
    assert message in error.value.code and "\n" not in error.value.code


def test_a_truncated_lidar_file_is_one_line_that_names_it_and_no_bag(tiny_dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    subprocess.run(["cp", "-r", str(tiny_dataset), str(root)], check=True)
    file = sorted((root / "sweeps" / "LIDAR_TOP").iterdir())[2]
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(SystemExit, match=f"vexkd-nuscenes-to-bag: {file}: "):
        main([str(root), "--version", "v1.0-mini", "--out", str(tmp_path / "bags")])
    assert sorted(entry.name for entry in (tmp_path / "bags").iterdir()) == [".lock", "manifest.json"]


def test_a_dataset_of_another_maker_with_clouds_of_four_columns_is_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    scene = next(iter(SCENES))
    root = write_other_dataset(tmp_path / "data", splits={"all": [scene]}, names=NAMES)
    clouds = {}
    for path in root.glob("s*/LIDAR_TOP/*"):
        cloud = np.fromfile(path, np.float32).reshape(-1, 5)[:, :4]
        clouds[len(clouds)] = cloud
        cloud.tofile(path)
    (bag,) = convert(root, VERSION, tmp_path / "bags", split="all")
    messages = messages_of(bag)
    assert bag.name == scene and "LIDAR_FRONT_LEFT: left out; " in capsys.readouterr().err
    assert len(messages["/lidar/points"]) == 6 and len(messages["/cam_front/image/compressed"]) == 2
    for _, message in messages["/lidar/points"]:
        read = np.frombuffer(message.data.tobytes(), [("xyzi", "<f4", 4), ("ring", "<u2")])
        assert any(np.array_equal(read["xyzi"], cloud) for cloud in clouds.values()) and not read["ring"].any()


def test_a_scene_without_samples_is_one_line(tmp_path: Path) -> None:
    root = write_other_dataset(tmp_path / "data", names=NAMES)
    change_rows(root, "scene", lambda row: row.update(first_sample_token=""))
    with pytest.raises(SystemExit, match=r"scene\.json: host-a.* has no sample; leave it out"):
        main([str(root), "--version", VERSION, "--out", str(tmp_path / "bags")])


def test_files_that_are_not_there_are_left_out_and_said(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = tmp_path / "data"
    subprocess.run(["cp", "-r", str(tiny_dataset), str(root)], check=True)
    sweeps = lidar_chain(NuScenes("v1.0-mini", str(root), verbose=False))
    gone = [sweep for sweep in sweeps if not sweep["is_key_frame"]][2:4]
    for sweep in gone:
        (root / sweep["filename"]).unlink()
    line = f"LIDAR_TOP: 2 of 9 files are not there (the first is {root / gone[0]['filename']}); left out"
    (bag,) = convert(root, "v1.0-mini", tmp_path / "bags")
    assert line in capsys.readouterr().err
    assert json.loads((tmp_path / "bags" / "manifest.json").read_text())["bags"]["scene-0103"]["left_out"] == [line]
    messages = messages_of(bag)
    assert [stamp for stamp, _ in messages["/lidar/points"]] == [
        1000 * sweep["timestamp"] for sweep in sweeps if sweep not in gone
    ]
    assert len(messages["/tf"]) == len(messages_of(bag)["/odom"]) + 3 == 12, "poses are known all the same"

    subprocess.run(["rm", "-r", str(root / "sweeps"), str(root / "samples")], check=True)
    with pytest.raises(UserError, match="holds not one of scene-0103's sensor files; complete the download"):
        convert(root, "v1.0-mini", tmp_path / "others")

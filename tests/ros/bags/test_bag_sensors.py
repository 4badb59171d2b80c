"""Images, calibration and radar in bags against the files and tables of the dataset and the devkit's own reader."""

from pathlib import Path

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import RadarPointCloud
from support.bag_content import messages_of, stamp_of
from support.full_nuscenes import RADAR_FIELDS, RADAR_XYZ, radar_returns, write_radar

from vexkd_model.errors import UserError
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.bags.scene.sensors import radar_cloud

Messages = dict[str, list[tuple[int, object]]]
DATATYPE = {"<f4": 7, "|i1": 1, "<i2": 3}  # sensor_msgs/PointField


@pytest.fixture(scope="module")
def full(full_dataset: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(full_dataset), verbose=False)


def captures(nusc: NuScenes, channel: str, scene: str = "scene-0061") -> list[dict]:
    """sample_data of a sensor in a scene, by time."""
    found = [
        record
        for record in nusc.sample_data
        if record["channel"] == channel
        and nusc.get("scene", nusc.get("sample", record["sample_token"])["scene_token"])["name"] == scene
    ]
    return sorted(found, key=lambda record: record["timestamp"])


def check_cameras(nusc: NuScenes, messages: Messages, scene: str) -> int:
    """Every image and calibration of a scene, bit for bit; the number of images."""
    channels = sorted({record["channel"] for record in nusc.sample_data if record["channel"].startswith("CAM")})
    count = 0
    for channel in channels:
        name, records = channel.lower(), captures(nusc, channel, scene)
        images, infos = messages[f"/{name}/image/compressed"], messages[f"/{name}/camera_info"]
        for record, (log_time, image), (info_time, info) in zip(records, images, infos, strict=True):
            assert log_time == info_time == 1000 * record["timestamp"]
            assert stamp_of(image.header) == stamp_of(info.header) == log_time
            assert image.header.frame_id == info.header.frame_id == name
            assert image.format == "jpeg"
            assert image.data.tobytes() == (Path(nusc.dataroot) / record["filename"]).read_bytes()
            intrinsics = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])["camera_intrinsic"]
            assert info.k.reshape(3, 3).tolist() == intrinsics
            assert info.p.reshape(3, 4)[:, :3].tolist() == intrinsics
            assert not info.p.reshape(3, 4)[:, 3].any() and not info.d.any()
            assert (info.r.reshape(3, 3) == np.eye(3)).all()
            assert (info.width, info.height) == (record["width"], record["height"])
            count += 1
    return count


def test_images_and_calibration_are_bit_for_bit_those_of_the_dataset(full: NuScenes, full_messages: Messages) -> None:
    assert check_cameras(full, full_messages, "scene-0061") == 6 * 3


def test_a_real_keyframes_images_are_bit_for_bit_those_of_the_dataset(keyframe_dataroot: Path, tmp_path: Path) -> None:
    (bag,) = convert(keyframe_dataroot, "v1.0-mini", tmp_path)
    assert check_cameras(NuScenes("v1.0-mini", str(keyframe_dataroot), verbose=False), messages_of(bag), bag.name) == 6


def test_transforms_are_the_very_numbers_of_the_tables(full: NuScenes, full_messages: Messages) -> None:
    ((_, static),) = full_messages["/tf_static"]
    told = {transform.child_frame_id: transform.transform for transform in static.transforms}
    assert {"lidar_top", "radar_front", "cam_front", "cam_back_left"} < told.keys()
    for sensor in full.calibrated_sensor:
        transform = told[full.get("sensor", sensor["sensor_token"])["channel"].lower()]
        shift, turn = transform.translation, transform.rotation
        assert [shift.x, shift.y, shift.z] == sensor["translation"]
        assert [turn.w, turn.x, turn.y, turn.z] == sensor["rotation"]
    moving = {stamp: message.transforms[0].transform for stamp, message in full_messages["/tf"]}
    for channel in ("LIDAR_TOP", "CAM_FRONT", "RADAR_FRONT"):
        for record in captures(full, channel):
            pose = full.get("ego_pose", record["ego_pose_token"])
            shift, turn = moving[1000 * record["timestamp"]].translation, moving[1000 * record["timestamp"]].rotation
            assert [shift.x, shift.y, shift.z] == pose["translation"]
            assert [turn.w, turn.x, turn.y, turn.z] == pose["rotation"]


def test_radar_returns_keep_all_fields_and_their_datatypes(full: NuScenes, full_messages: Messages) -> None:
    RadarPointCloud.disable_filters()
    try:
        for k, (record, (log_time, cloud)) in enumerate(
            zip(captures(full, "RADAR_FRONT"), full_messages["/radar_front/points"], strict=True)
        ):
            assert log_time == stamp_of(cloud.header) == 1000 * record["timestamp"]
            assert (cloud.header.frame_id, cloud.height, cloud.width) == ("radar_front", 1, 7 + k)
            assert (cloud.point_step, cloud.row_step) == (43, 43 * (7 + k))
            assert [(field.name, field.offset, field.datatype, field.count) for field in cloud.fields] == [
                (name, offset, DATATYPE[dtype.str], 1) for name, (dtype, offset) in RADAR_FIELDS.fields.items()
            ]
            returns = np.frombuffer(cloud.data.tobytes(), RADAR_FIELDS)
            assert returns.tobytes() == radar_returns(7 + k).tobytes()
            devkit = RadarPointCloud.from_file(str(Path(full.dataroot) / record["filename"])).points
            for row, name in zip(devkit, RADAR_FIELDS.names, strict=True):
                np.testing.assert_array_equal(returns[name], row.astype(returns[name].dtype))
    finally:
        RadarPointCloud.default_filters()
    ((_, static),) = full_messages["/tf_static"]
    (mount,) = (t.transform.translation for t in static.transforms if t.child_frame_id == "radar_front")
    assert [mount.x, mount.y, mount.z] == RADAR_XYZ


def test_a_radar_file_whose_first_return_has_no_position_is_an_empty_cloud(tmp_path: Path) -> None:
    returns = radar_returns(1)
    returns["x"] = np.nan
    write_radar(tmp_path / "empty.pcd", returns)
    cloud = radar_cloud(tmp_path / "empty.pcd", 5, "radar_front")
    assert (cloud.width, len(cloud.data), cloud.point_step) == (0, 0, 43)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a binary PCD file"),
        (b"\xff\xd8\xff", "not a binary PCD file"),
        (None, "truncated radar file"),
        (b"VERSION 0.7\nFIELDS x\nSIZE 4\nTYPE F\nCOUNT 1\nPOINTS 2\nDATA ascii\n1\n2\n", "not a binary PCD file"),
    ],
)
def test_a_damaged_radar_file_is_one_line_that_names_it(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "radar.pcd"
    write_radar(path, radar_returns(9))
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    with pytest.raises(UserError, match=f"radar.pcd: {message}") as error:
        radar_cloud(path, 5, "radar_front")
    assert "\n" not in str(error.value)


def test_a_missing_camera_is_left_out_of_some_samples_only(
    full_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Half of the archives unpacked: one image of three is there."""
    root = tmp_path / "data"
    root.mkdir()
    for entry in full_dataset.iterdir():
        if entry.name != "samples":
            (root / entry.name).symlink_to(entry)
    for file in (full_dataset / "samples").rglob("*.*"):
        if file.parent.name != "CAM_BACK" or file.stem == "scene-0061-1":
            (root / "samples" / file.parent.name).mkdir(parents=True, exist_ok=True)
            (root / "samples" / file.parent.name / file.name).symlink_to(file)
    (bag,) = convert(
        root, "v1.0-mini", tmp_path / "bags", scenes=["scene-0061"], selection=Selection(topics=("/cam_*",))
    )
    assert "scene-0061 (1/1): CAM_BACK: 2 of 3 files are not there" in capsys.readouterr().err
    messages = messages_of(bag)
    assert len(messages["/cam_back/image/compressed"]) == len(messages["/cam_back/camera_info"]) == 1
    assert len(messages["/cam_front/image/compressed"]) == 3

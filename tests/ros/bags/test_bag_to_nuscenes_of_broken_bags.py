"""Bags that are no dataset: each is refused in one line with its cure, and nothing is left of the attempt."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from rosbags.rosbag2 import StoragePlugin, Writer
from support import vehicle_bag as vehicle
from support.spoilt_bags import nameless, of, of_four_to_three, rewritten, unstamped, without_transforms

from vexkd_ros.bags.bag_to_nuscenes import main
from vexkd_ros.bags.dataset.wiring import dump_wiring, read_wiring
from vexkd_ros.bags.scene.messages import header
from vexkd_ros.bags.typestore import bag_typestore

FRONT, REAR = vehicle.POINTS["front_lidar"], vehicle.POINTS["rear_lidar"]
IMAGE, JPEG, INFO = vehicle.IMAGES["cam_f"], vehicle.IMAGES["cam_l"], vehicle.INFOS["cam_f"]
DETECTIONS = "vision_msgs/msg/Detection3DArray"
SENSORS = f"""
base_frame: base_footprint
odom_frame: map
odometry: {vehicle.ODOMETRY}
annotations: /annotated
sensors:
  LIDAR_TOP: [{FRONT}, {REAR}]
  CAM_FRONT: {IMAGE}
  CAM_BACK_LEFT: {JPEG}
"""


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vehicle.write_vehicle_bag(tmp_path_factory.mktemp("drive") / "monday")


def refusal(bag: Path, tmp_path: Path, sensors: str | None = SENSORS) -> str:
    """The one line that is said."""
    out, arguments = tmp_path / "data", []
    if sensors:
        (tmp_path / "sensors.yaml").write_text(sensors)
        arguments = ["--sensors", str(tmp_path / "sensors.yaml")]
    with pytest.raises(SystemExit) as raised:
        main([str(bag), "--out", str(out), "--version", "mine", "--yes", *arguments])
    said = str(raised.value)
    assert said.startswith("vexkd-bag-to-nuscenes: ") and "\n" not in said
    assert not out.exists(), "nothing is left of it"
    return said


def without_x(message: Any) -> Any:
    next(field for field in message.fields if field.name == "x").name = "range"
    return message


def cut(message: Any) -> Any:
    message.data = message.data[: len(message.data) // 2]
    return message


def lost(message: Any) -> None:
    return None


def shifted(seconds: int) -> Callable[[Any], Any]:
    def change(message: Any) -> Any:
        message.header.stamp.sec += seconds
        return message

    return change


def with_values(**values: Any) -> Callable[[Any], Any]:
    def change(message: Any) -> Any:
        for name, value in values.items():
            setattr(message, name, value)
        return message

    return change


def sparse_and_late(message: Any) -> Any:
    """Two images a second, 0.2 s behind the clouds."""
    if message.header.stamp.nanosec // 10**8 % 5:
        return None
    message.header.stamp.nanosec += 200_000_000
    return message


def two_publishers() -> Callable[[Any], Any]:
    count = Counter()

    def change(message: Any) -> Any:
        count["messages"] += 1
        if count["messages"] % 2:
            message.header.frame_id = "rear_lidar"
        return message

    return change


def two_drives() -> Callable[[Any], Any]:
    count = Counter()

    def change(message: Any) -> Any:
        count["messages"] += 1
        return shifted(-5)(message) if count["messages"] > 10 else message

    return change


def in_a_circle(topic: str, message: Any) -> Any:
    if topic == "/tf_static":
        front, rear = (one for one in message.transforms if one.child_frame_id.endswith("lidar"))
        front.header.frame_id, rear.header.frame_id = "rear_lidar", "front_lidar"
    return message


def without_returns(message: Any) -> Any:
    message.data = np.zeros_like(message.data)
    return message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of(FRONT, lost), f"{FRONT} has no usable message: record it, or leave the sensor out"),
        (of(FRONT, unstamped), "every stamp is 0: set header.stamp in the driver"),
        (of(FRONT, nameless), "messages have no frame_id: set it in the driver"),
        (of(FRONT, without_x), "the cloud has no field x; configure the driver"),
        (of(FRONT, cut), "the cloud has less data than it declares; mend the driver"),
        (of(FRONT, without_returns), f"{FRONT}: the cloud has no point with finite numbers"),
        (of(FRONT, two_publishers()), "frame_id changes between front_lidar, rear_lidar: stop one of two publishers"),
        (of(FRONT, two_drives()), "two drives in one bag, or a clock that was set; cut the bag there"),
        (of(REAR, shifted(1000)), f"{REAR}: no cloud of it is within 50 ms of one of {FRONT}: compare their clocks"),
        (without_transforms({"front_lidar"}), "nothing on /tf or /tf_static names front_lidar; publish it"),
        (in_a_circle, "the transforms run in a circle: "),
        (of(vehicle.ODOMETRY, lost), "nothing on /tf or /tf_static names map; publish it, or correct"),
        (of(vehicle.ODOMETRY, shifted(-1000)), "check the clocks and the rate of who publishes it"),
        (of(vehicle.ODOMETRY, with_values(child_frame_id="imu")), f"{vehicle.ODOMETRY}: no transform imu → base_foot"),
        (of(IMAGE, shifted(1000)), f"{IMAGE}: no transform map → base_footprint at the message's stamp; check the clo"),
        (of(IMAGE, sparse_and_late), f"{IMAGE}: its messages lie 210 ms from the keyframes of LIDAR_TOP: compare"),
        (of(IMAGE, with_values(encoding="32FC1")), "encoding '32FC1' cannot be made RGB; configure the driver to rgb8"),
        (of(IMAGE, cut), "the image has less data than it declares; mend the driver"),
        (of(JPEG, cut), "the image is truncated; check the driver and the network"),
        (of(JPEG, with_values(data=np.zeros(99, np.uint8))), "the image is corrupt; check the driver and the network"),
        (of(JPEG, with_values(format="h264")), "a packet of video, format 'h264'; decode it first: image_transport"),
        (of(INFO, lost), f"{INFO} has no message: record it, or leave CAM_FRONT out"),
        (of(INFO, of_four_to_three), "CameraInfo is of 160×120, another shape: publish the CameraInfo of these images"),
        (of(INFO, with_values(k=np.zeros(9), p=np.zeros(12))), "has no focal length; calibrate the camera"),
        (of(INFO, with_values(distortion_model="mei")), "distortion of the model 'mei'; publish rectified images"),
    ],
)
def test_a_sensor_that_cannot_be_used_is_named_with_its_cure(
    drive: Path, tmp_path: Path, change: Callable, said: str
) -> None:
    assert said in refusal(rewritten(drive, tmp_path / "sick", change), tmp_path)


@pytest.mark.parametrize(
    ("sensors", "said"),
    [
        (
            "LIDAR_TOP: /nowhere",
            f"/nowhere is not in the bag; topics of PointCloud2: {FRONT}, {REAR}; correct LIDAR_TOP",
        ),
        (f"LIDAR_TOP: {IMAGE}", f"{IMAGE} is sensor_msgs/msg/Image; topics of PointCloud2: {FRONT}"),
        (f"CAM_FRONT: {{image: {IMAGE}, info: /nowhere}}", "CAM_FRONT has no CameraInfo on /nowhere, topics of it: "),
    ],
)
def test_a_topic_that_is_not_there_is_named_beside_those_that_are(
    drive: Path, tmp_path: Path, sensors: str, said: str
) -> None:
    text = f"{SENSORS.partition('sensors:')[0]}sensors:\n  {sensors}\n"
    assert said in refusal(drive, tmp_path, text)


def detection(stamp_ns: int, frame: str = "map", name: str = "car", instance: str = "1", edge: float = 2.0) -> object:
    types = bag_typestore().types
    centre = types["geometry_msgs/msg/Pose"](
        types["geometry_msgs/msg/Point"](5.0, 0.0, 1.0), types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    result = types["vision_msgs/msg/ObjectHypothesisWithPose"](
        types["vision_msgs/msg/ObjectHypothesis"](name, 1.0),
        types["geometry_msgs/msg/PoseWithCovariance"](centre, np.zeros(36)),
    )
    box = types["vision_msgs/msg/BoundingBox3D"](centre, types["geometry_msgs/msg/Vector3"](edge, 2.0, 2.0))
    return types["vision_msgs/msg/Detection3D"](header(stamp_ns, frame), [result], box, instance)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([{"frame": "world"}], "world is the frame of its boxes, but no transform map → world: nothing on /tf"),
        (
            [{"name": "tram"}],
            "class 'tram' is none of nuScenes'; say which one it is in the file of --sensors, classes:",
        ),
        ([{}, {}], "/annotated at 1700000000.000000 s: two boxes have the id 1; give each object its own"),
        ([{"edge": 0.0}], "/annotated at 1700000000.000000 s: a box of car is not finite or has no volume; correct it"),
        ([{"stamp": 300_000_000_000}], "no annotated moment is within 50 ms of a message of LIDAR_TOP"),
    ],
)
def test_annotations_that_mean_nothing_are_named(drive: Path, tmp_path: Path, changes: list[dict], said: str) -> None:
    stamp = vehicle.START_NS + changes[0].pop("stamp", 0)
    detections = [detection(stamp, **change) for change in changes]
    message = bag_typestore().types[DETECTIONS](header(stamp, "map"), detections)
    sick = rewritten(drive, tmp_path / "sick", added=[("/annotated", DETECTIONS, vehicle.START_NS, message)])
    assert said in refusal(sick, tmp_path)


def test_annotated_moments_are_the_keyframes_and_classes_are_mapped(drive: Path, tmp_path: Path) -> None:
    types, added = bag_typestore().types, []
    for i, name in ((3, "tram"), (9, "tram"), (14, "sign")):
        stamp = vehicle.START_NS + i * 10**8
        message = types[DETECTIONS](header(stamp, "map"), [detection(stamp, "map", name)])
        added.append(("/annotated", DETECTIONS, stamp, message))
    bag = rewritten(drive, tmp_path / "labelled", added=added)
    (tmp_path / "sensors.yaml").write_text(f"{SENSORS}\nclasses: {{tram: bus, sign: null}}\n")
    arguments = [str(bag), "--out", str(tmp_path / "data"), "--version", "mine"]
    assert main([*arguments, "--sensors", str(tmp_path / "sensors.yaml")]) == 0
    nusc = NuScenes("mine", str(tmp_path / "data"), verbose=False)
    assert [sample["timestamp"] - vehicle.START_NS // 1000 for sample in nusc.sample] == [300_000, 900_000, 1_400_000]
    first, second = nusc.sample_annotation
    assert first["next"] == second["token"] and first["category_name"] == "vehicle.bus.rigid"
    np.testing.assert_allclose(first["translation"], (5, 0, 1), atol=1e-9)  # in map, which is the world
    posts = vehicle.POSTS
    inside = int((np.abs(posts - (5, 0, 1)) <= 1).all(axis=1).sum())
    assert first["num_lidar_pts"] == 2 * inside


@pytest.mark.parametrize("sensors", [None, SENSORS], ids=["guessed", "named"])
def test_what_holds_nothing_is_refused(drive: Path, tmp_path: Path, sensors: str | None) -> None:
    with Writer(tmp_path / "empty", version=8, storage_plugin=StoragePlugin.MCAP):
        pass
    assert "holds no messages; record it again" in refusal(tmp_path / "empty", tmp_path, sensors)
    assert "no such bag" in refusal(tmp_path / "nowhere", tmp_path, sensors)
    (tmp_path / "notes.txt").write_text("no bag")
    assert "not a bag; give its folder" in refusal(tmp_path / "notes.txt", tmp_path, sensors)
    killed = rewritten(drive, tmp_path / "killed")
    (file,) = killed.glob("*.mcap")
    (killed / "metadata.yaml").unlink()
    file.write_bytes(file.read_bytes()[:500])
    assert "holds no messages" in refusal(killed, tmp_path, sensors)
    file.write_bytes(b"nonsense" * 100)
    assert "damaged bag" in refusal(killed, tmp_path, sensors)
    (database,) = drive.glob("*.db3")
    (tmp_path / "cut.db3").write_bytes(database.read_bytes()[: database.stat().st_size // 3])
    assert "damaged bag" in refusal(tmp_path / "cut.db3", tmp_path, sensors)


def test_a_bag_without_sensors_is_refused_before_anything_is_guessed(drive: Path, tmp_path: Path) -> None:
    kept = {vehicle.ODOMETRY, "/tf_static"}
    bare = rewritten(drive, tmp_path / "bare", lambda topic, message: message if topic in kept else None)
    assert "holds neither PointCloud2 nor images; record the sensors' topics" in refusal(bare, tmp_path, None)


def test_a_sick_bag_does_not_keep_the_others_out(drive: Path, tmp_path: Path, capsys) -> None:
    sick = rewritten(drive, tmp_path / "sick", of(FRONT, nameless))
    (tmp_path / "sensors.yaml").write_text(SENSORS)
    out = tmp_path / "data"
    with pytest.raises(SystemExit, match="messages have no frame_id"):
        main([str(drive), str(sick), "--out", str(out), "--version", "m", "--sensors", str(tmp_path / "sensors.yaml")])
    assert (out / "m" / "splits.json").is_file() and not list(out.rglob("*sick*"))


def test_a_few_damaged_messages_cost_no_more_than_themselves(drive: Path, tmp_path: Path, capsys) -> None:
    count = Counter()

    def third(message: Any) -> Any:
        count["messages"] += 1
        return cut(message) if count["messages"] == 6 else message  # the keyframe at 0.5 s

    (tmp_path / "sensors.yaml").write_text(SENSORS)
    bag = rewritten(drive, tmp_path / "sick", of(FRONT, third))
    out = tmp_path / "data"
    assert main([str(bag), "--out", str(out), "--version", "m", "--sensors", str(tmp_path / "sensors.yaml")]) == 0
    assert (
        "the cloud has less data than it declares; mend the driver (1 messages are left out)" in capsys.readouterr().err
    )
    nusc = NuScenes("m", str(out), verbose=False)
    assert len(nusc.sample) == 4 and all(len(sample["data"]) == 3 for sample in nusc.sample)


def test_a_wiring_reads_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "sensors.yaml"
    file.write_text(SENSORS)
    wiring = read_wiring(file)
    file.write_text(dump_wiring(wiring))
    assert read_wiring(file) == wiring

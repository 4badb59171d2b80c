"""Bags as people have them: one file, no metadata, killed, of ROS 1, with a clock that jumps, of several robots."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from tf2_msgs.msg import TFMessage

from vexkd_model.errors import UserError
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.bags.writing import LATCHED, STREAM, BagFormat

TF = "tf2_msgs/msg/TFMessage"
TOPICS = ("/lidar/points", "/tf", "/tf_static", "/odom")
Start = Callable[..., subprocess.Popen]


@pytest.fixture(scope="module")
def bag(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(tiny_dataset, "v1.0-mini", tmp_path_factory.mktemp("bags"), selection=Selection(topics=TOPICS))[0]


def content(path: Path) -> list[tuple[str, int, bytes]]:
    with open_bag(path) as reader:
        return [(connection.topic, stamp, bytes(data)) for connection, stamp, data in reader.messages()]


def rewritten(
    bag: Path,
    out: Path,
    log_time: Callable[[int, int], int] = lambda i, stamp: stamp,
    storage: StoragePlugin = StoragePlugin.MCAP,
) -> Path:
    """Copy a bag with other log times."""
    with Reader(bag) as reader, Writer(out, version=8, storage_plugin=storage) as writer:
        connections = {
            c.topic: writer.add_connection(
                c.topic, c.msgtype, typestore=bag_typestore(), offered_qos_profiles=c.ext.offered_qos_profiles
            )
            for c in reader.connections
        }
        for i, (connection, stamp, data) in enumerate(reader.messages()):
            writer.write(connections[connection.topic], log_time(i, stamp), data)
    return out


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_file_alone_and_a_folder_without_metadata_are_the_whole_bag(bag, tmp_path, storage, capsys):
    copy = rewritten(bag, tmp_path / "copy", storage=storage)
    (file,) = (path for path in copy.iterdir() if path.name != "metadata.yaml")
    assert content(file) == content(bag)
    assert capsys.readouterr().err == ""
    (copy / "metadata.yaml").unlink()
    assert content(copy) == content(copy) == content(bag)
    assert capsys.readouterr().err.count("metadata.yaml is missing") == 1, "a player that loops opens it again"
    with pytest.raises(UserError, match=r"incomplete bag, metadata.yaml is missing"), open_bag(copy, whole=True):
        pass


@pytest.fixture(scope="module")
def long_drive(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rounds, in several chunks of a megabyte."""
    out = tmp_path_factory.mktemp("long") / "drive"
    with Reader(bag) as reader, Writer(out, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=bag_typestore()) for c in reader.connections
        }
        for turn in range(6):
            for connection, stamp, data in reader.messages():
                writer.write(connections[connection.topic], stamp + turn * 10**9, data)
    return out


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_of_a_killed_recording_what_is_whole_is_read_and_what_is_lost_is_said(long_drive, tmp_path, share, capsys):
    everything, killed = content(long_drive), tmp_path / "killed"
    shutil.copytree(long_drive, killed)
    (killed / "metadata.yaml").unlink()
    (file,) = killed.iterdir()
    data = file.read_bytes()[: int(share * file.stat().st_size)]
    file.write_bytes(data)
    read = content(killed)
    said = capsys.readouterr().err.splitlines()
    assert read == everything[: len(read)]
    assert share < 0.5 or read, "at least the first chunk is whole"
    assert share < 0.99 or read == everything, "only the index is lost"
    (lost,) = (int(line.split("last ")[1].split()[0]) for line in said if "ends within a record" in line)
    assert 0 < lost < len(data) and sum(len(message) for _, _, message in read) <= len(data) - lost
    file.write_bytes(data + bytes(4096))  # space that a file system had reserved
    assert content(killed) == read
    file.write_bytes(b"nonsense" * 100)
    with pytest.raises(UserError, match=r"\.mcap: damaged bag"):
        content(killed)


def test_a_part_that_is_missing_leaves_the_others(bag, tmp_path, capsys):
    copy = rewritten(bag, tmp_path / "copy")
    metadata = copy / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("- copy.mcap", "- copy.mcap\n  - copy_1.mcap"))
    assert content(copy) == content(bag)
    assert "do not agree" in capsys.readouterr().err


def test_a_bag_of_ros_1_reads_as_one_of_ros_2(tmp_path):
    old, new, path = get_typestore(Stores.ROS1_NOETIC), bag_typestore(), tmp_path / "drive.bag"
    old.register(get_types_from_msg("uint8 gear\n", "acme_msgs/msg/State"))
    old.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms\n", TF))
    types, stamp = old.types, 1_533_000_000_250_000_000
    header = types["std_msgs/msg/Header"](7, types["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9)), "lidar_top")
    field = types["sensor_msgs/msg/PointField"]
    points = np.arange(12, dtype=np.float32)
    cloud = types["sensor_msgs/msg/PointCloud2"](
        header, 1, 3, [field(n, 4 * i, 7, 1) for i, n in enumerate("xyz")], False, 16, 48, points.view(np.uint8), True
    )
    region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    intrinsics = np.array([100.0, 0, 50, 0, 110, 40, 0, 0, 1])
    info = types["sensor_msgs/msg/CameraInfo"](
        header, 80, 100, "plumb_bob", np.full(5, 0.1), intrinsics, np.eye(3).ravel(), np.arange(12.0), 0, 0, region
    )
    transform = types["geometry_msgs/msg/Transform"](
        types["geometry_msgs/msg/Vector3"](1.0, 2.0, 3.0), types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    static = types[TF]([types["geometry_msgs/msg/TransformStamped"](header, "roof", transform)])
    with Ros1Writer(path) as writer:
        for topic, msgtype, message, latching in (
            ("/points", "sensor_msgs/msg/PointCloud2", cloud, 0),
            ("/info", "sensor_msgs/msg/CameraInfo", info, 0),
            ("/tf_static", TF, static, 1),
            ("/state", "acme_msgs/msg/State", types["acme_msgs/msg/State"](3), 0),
        ):
            connection = writer.add_connection(topic, msgtype, typestore=old, latching=latching)
            writer.write(connection, stamp, old.serialize_ros1(message, msgtype))
    with open_bag(path) as reader:
        read = {c.topic: (c, new.deserialize_cdr(data, c.msgtype)) for c, _, data in reader.messages()}
        assert any("/state is left out, its type acme_msgs/msg/State is not installed" in note for note in reader.notes)
    assert read.keys() == {"/points", "/info", "/tf_static"}
    assert read["/points"][1].data.tobytes() == points.tobytes()
    assert read["/points"][1].header.stamp.sec * 10**9 + read["/points"][1].header.stamp.nanosec == stamp
    assert read["/info"][1].k.tolist() == intrinsics.tolist() and read["/info"][1].p.tolist() == list(range(12))
    assert read["/info"][1].d.tolist() == [0.1] * 5
    assert read["/tf_static"][1].transforms[0].child_frame_id == "roof"
    assert read["/tf_static"][0].ext.offered_qos_profiles == [LATCHED]


@pytest.mark.parametrize(
    "log_time",
    [
        lambda i, stamp: 0 if i < 3 else stamp,  # received before /clock, with use_sim_time
        lambda i, stamp: stamp if i < 20 else stamp + 3 * 365 * 86400 * 10**9,  # a clock that was set right
    ],
)
def test_log_times_that_jump_cost_a_second_and_are_said(bag, tmp_path, log_time, capsys):
    copy = rewritten(bag, tmp_path / "copy", log_time)
    with open_bag(copy) as reader:
        elapsed = [passed for passed, _, _, _ in reader.paced()]
    with open_bag(bag) as reader:
        duration = reader.duration
    assert elapsed == sorted(elapsed) and elapsed[0] == 0
    assert 1e9 <= elapsed[-1] <= 1e9 + duration
    assert "log times jump by" in capsys.readouterr().err


@pytest.fixture(scope="module")
def broadcasters(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a bag of volatile static transforms, one publisher a sensor, and of a topic of unknown type."""
    store, out = bag_typestore(), tmp_path_factory.mktemp("broadcasters") / "bag"
    with Reader(bag) as reader, BagFormat().writer(out) as writer:
        connections = {c.topic: BagFormat().add_topic(writer, c.topic, c.msgtype, STREAM) for c in reader.connections}
        unknown = get_typestore(Stores.ROS2_HUMBLE)
        unknown.register(get_types_from_msg("uint8 gear\n", "acme_msgs/msg/State"))
        state = writer.add_connection("/state", "acme_msgs/msg/State", typestore=unknown)
        writer.write(state, reader.start_time, b"\\0\\1\\0\\0\\3")
        for connection, stamp, data in reader.messages():
            parts = [data]
            if connection.topic == "/tf_static":
                message = store.deserialize_cdr(data, TF)
                parts = [store.serialize_cdr(type(message)([one]), TF) for one in message.transforms]
                assert len(parts) == 2
            for i, part in enumerate(parts):
                writer.write(connections[connection.topic], stamp + i, part)
    return out


class Listener:
    """Subscribes to latched transforms."""

    def __init__(self) -> None:
        rclpy.init()
        self.node, self.messages = rclpy.create_node("late"), []
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def first(self, topic: str, seconds: float) -> Any:
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(TFMessage, topic, self.messages.append, latched)
        until = time.monotonic() + seconds
        while not self.messages and time.monotonic() < until:
            self.executor.spin_once(timeout_sec=0.1)
        return self.messages[0]


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.executor.shutdown()
    listener.node.destroy_node()
    rclpy.shutdown()


def test_who_comes_late_gets_the_static_transforms_of_all_broadcasters_at_once(broadcasters, start: Start, listener):
    player = start(
        "bags.player",
        broadcasters,
        "--rate",
        "0.02",
        "--topics",
        "/tf*,/lidar/points,/state",
        "--ros-args",
        "-r",
        "/tf_static:=/robot1/tf_static",
    )
    for line in player.stderr:
        if line.startswith("start"):
            break
        assert line == "/state: not played, its type acme_msgs/msg/State is not installed\n"
    time.sleep(2)
    children = {transform.child_frame_id for transform in listener.first("/robot1/tf_static", 30).transforms}
    assert children == {"lidar_top", "cam_front"}


def test_patterns_that_match_nothing_are_one_line(bag, start: Start):
    player = start("bags.player", bag, "--topics", "/robot1/*")
    _, said = player.communicate(timeout=60)
    assert player.returncode == 1
    assert said.splitlines()[-1] == (
        f"vexkd-bag-player: --topics /robot1/*: matches none of {bag}, which has /lidar/points, /odom, /tf, /tf_static"
    )


def test_what_is_no_bag_is_said_to_be_none(tmp_path):
    (tmp_path / "notes.txt").write_text("a drive")
    with (
        pytest.raises(UserError, match="not a bag; give its folder, or a file that ends in"),
        open_bag(tmp_path / "notes.txt"),
    ):
        pass
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
    (tmp_path / "none").mkdir()
    with (
        pytest.raises(UserError, match=r"incomplete bag, it holds no .mcap and no .db3 file"),
        open_bag(tmp_path / "none"),
    ):
        pass


@pytest.mark.parametrize("whole", [True, False])
def test_a_folder_of_bags_is_none_itself(tmp_path, whole):
    (tmp_path / "scene-0061").mkdir()
    (tmp_path / "scene-0061" / "metadata.yaml").touch()
    first = re.escape(str(tmp_path / "scene-0061"))
    with pytest.raises(UserError, match=rf"a folder of 1 bags; give {first}, or .*\*$"), open_bag(tmp_path, whole):
        pass

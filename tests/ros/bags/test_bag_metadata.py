"""metadata.yaml and the bytes of messages as rosbag2 and ROS's own types read them."""

import importlib
import json
import os
from pathlib import Path

import pytest
import yaml
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.bags.typestore import learn_type
from vexkd_ros.bags.writing import BagFormat
from vexkd_ros.share import installed_shares

SMALL = Selection(topics=("/tf*", "/keyframe", "/ground_truth*", "/map/markers", "/odom"))
INFINITE = {"sec": 9223372036, "nsec": 854775807}
LATCHED = {"/tf_static", "/map/markers"}


def information(bag: Path) -> dict:
    return yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]


def profiles(metadata: dict) -> list[dict]:
    """The quality of service of a topic: YAML in a string up to format 8, YAML from 9 on."""
    offered = metadata["offered_qos_profiles"]
    return yaml.safe_load(offered) if isinstance(offered, str) else offered


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize(("distro", "version"), [("humble", 8), ("jazzy", 9), ("kilted", 9)])
def test_metadata_is_that_of_the_distribution(
    full_dataset: Path, tmp_path: Path, distro: str, version: int, storage: str
) -> None:
    (bag,) = convert(
        full_dataset,
        "v1.0-mini",
        tmp_path,
        scenes=["scene-0103"],
        selection=SMALL,
        bag_format=BagFormat(storage, distro),
    )
    told = information(bag)
    with AnyReader([bag]) as reader:
        messages = [(connection.topic, stamp) for connection, stamp, _ in reader.messages()]
        types = {connection.topic: connection.msgtype for connection in reader.connections}
    stamps = [stamp for _, stamp in messages]
    assert (told["version"], told["storage_identifier"], told["message_count"]) == (version, storage, len(messages))
    assert told["starting_time"] == {"nanoseconds_since_epoch": min(stamps)}
    assert told["duration"] == {"nanoseconds": max(stamps) - min(stamps)}
    (file,) = told["files"]
    assert told["relative_file_paths"] == [file["path"]] and (bag / file["path"]).is_file()
    assert file["message_count"] == len(messages)
    assert (told["compression_format"], told["compression_mode"]) == ("", "")
    counted = {entry["topic_metadata"]["name"]: entry["message_count"] for entry in told["topics_with_message_count"]}
    assert counted == {topic: sum(name == topic for name, _ in messages) for topic in types}
    for entry in told["topics_with_message_count"]:
        metadata = entry["topic_metadata"]
        assert (metadata["type"], metadata["serialization_format"]) == (types[metadata["name"]], "cdr")
        check_quality_of_service(metadata, in_words=version == 9)


def check_quality_of_service(metadata: dict, in_words: bool) -> None:
    (profile,) = profiles(metadata)
    latched = metadata["name"] in LATCHED
    words = {
        "history": "keep_last",
        "reliability": "reliable",
        "liveliness": "automatic",
        "durability": "transient_local" if latched else "volatile",
    }
    numbers = {"history": 1, "reliability": 1, "liveliness": 1, "durability": 1 if latched else 2}
    assert {key: profile[key] for key in words} == (words if in_words else numbers)
    assert profile["depth"] == (1 if latched else 100 if metadata["name"] == "/tf" else 10)
    assert profile["deadline"] == profile["lifespan"] == profile["liveliness_lease_duration"] == INFINITE
    assert profile["avoid_ros_namespace_conventions"] is False


@pytest.mark.skipif(os.environ.get("ROS_DISTRO") == "humble", reason="Humble has no type hashes")
def test_type_hashes_are_those_of_the_installed_ros(full_bags: dict[str, Path]) -> None:
    checked = 0
    for entry in information(full_bags["scene-0061"])["topics_with_message_count"]:
        package, _, name = entry["topic_metadata"]["type"].split("/")
        for share in installed_shares(package):
            described = share / "msg" / f"{name}.json"
            if described.is_file():
                rows = json.loads(described.read_text())["type_hashes"]
                (expected,) = (
                    row["hash_string"] for row in rows if row["type_name"] == entry["topic_metadata"]["type"]
                )
                assert entry["topic_metadata"]["type_description_hash"] == expected
                checked += 1
                break
    assert checked > 20


def test_nothing_is_lost_where_ros_itself_reads_and_writes_the_messages(full_bags: dict[str, Path]) -> None:
    with AnyReader([full_bags["scene-0061"]]) as reader:
        for connection, _, data in reader.messages():
            package, _, name = connection.msgtype.split("/")
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
            message = deserialize_message(bytes(data), kind)
            # ROS leaves anything in the gaps between fields; written by rosbags again, they are zeros.
            again = reader.typestore.deserialize_cdr(serialize_message(message), connection.msgtype)
            assert reader.typestore.serialize_cdr(again, connection.msgtype) == data, connection.topic


def test_types_of_installed_packages_are_learnt_with_all_that_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, name, definition in (
        ("plant_msgs", "Tree", "std_msgs/Header header\nLeaf[] leaves\nbark_msgs/Bark[2] bark\n"),
        ("plant_msgs", "Leaf", "float32 area\n"),
        ("bark_msgs", "Bark", "string<=5 kind\n"),
        ("plant_msgs", "Root", "soil_msgs/Soil soil\n"),
    ):
        (tmp_path / "share" / package / "msg").mkdir(parents=True, exist_ok=True)
        (tmp_path / "share" / package / "msg" / f"{name}.msg").write_text(definition)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path), prepend=os.pathsep)
    store = get_typestore(Stores.ROS2_JAZZY)
    assert learn_type("plant_msgs/msg/Tree", store)
    leaf, bark = store.types["plant_msgs/msg/Leaf"], store.types["bark_msgs/msg/Bark"]
    stamp = store.types["builtin_interfaces/msg/Time"](1, 2)
    tree = store.types["plant_msgs/msg/Tree"](
        store.types["std_msgs/msg/Header"](stamp, "wood"), [leaf(1.5)], [bark("oak"), bark("elm")]
    )
    data = store.serialize_cdr(tree, "plant_msgs/msg/Tree")
    assert store.deserialize_cdr(data, "plant_msgs/msg/Tree") == tree
    assert "string<=5 kind" in store.generate_msgdef("plant_msgs/msg/Tree", ros_version=2)[0]
    assert not learn_type("plant_msgs/msg/Root", store), "its soil is not installed"
    assert not learn_type("soil_msgs/msg/Soil", store)

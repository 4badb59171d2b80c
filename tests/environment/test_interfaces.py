"""interfaces/ must be what a ROS installation has, or nodes on the two sides would not understand each other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

INTERFACES = Path(__file__).parents[2] / "interfaces"

# Type hashes (REP-2011) of the messages as released: geometry2 0.41 and vision_msgs 4.1.1 of ROS 2 Kilted. A type hash
# covers the names, types and order of all fields, also of the messages inside.
RELEASED = {
    "tf2_msgs/msg/TFMessage": "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
    "vision_msgs/msg/BoundingBox3D": "RIHS01_bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "vision_msgs/msg/Detection3D": "RIHS01_ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "vision_msgs/msg/Detection3DArray": "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "vision_msgs/msg/LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "vision_msgs/msg/ObjectHypothesis": "RIHS01_51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "vision_msgs/msg/ObjectHypothesisWithPose": "RIHS01_"
    "41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "vision_msgs/msg/VisionClass": "RIHS01_1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
}


def test_the_definitions_are_those_of_the_released_packages():
    types = {}
    for path in INTERFACES.glob("*/msg/*.msg"):
        types |= get_types_from_msg(path.read_text(), f"{path.parts[-3]}/msg/{path.stem}")
    store = get_typestore(Stores.EMPTY)
    kilted = get_typestore(Stores.ROS2_KILTED)
    store.register({name: fields for name, fields in kilted.fielddefs.items() if name not in types} | types)
    assert {name: store.hash_rihs01(name) for name in types} == RELEASED


@pytest.mark.skipif(os.environ.get("ROS_DISTRO") == "humble", reason="Humble has no type hashes")
@pytest.mark.parametrize("name", RELEASED)
def test_the_installed_messages_announce_the_released_type(name):
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    description = next(path for prefix in prefixes if (path := Path(prefix, "share", f"{name}.json")).is_file())
    hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(description.read_text())["type_hashes"]}
    assert hashes[name] == RELEASED[name]


def test_a_workspace_with_this_repository_does_not_build_them(colcon, tmp_path):
    found = subprocess.run(
        [*colcon, "list", "--names-only", "--base-paths", INTERFACES.parent],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert found.split() == ["vexkd_ros"]

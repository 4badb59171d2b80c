"""RViz's and Foxglove's configurations show what is there: topics and types that a node or a bag of ours brings."""

import json
from collections.abc import Iterator

import pytest
import rclpy
import yaml
from rclpy.lifecycle import LifecycleNode

from vexkd_model.config import load_config
from vexkd_model.types import CAMERAS, MAP_CLASSES
from vexkd_ros.comparison_node import ComparisonNode
from vexkd_ros.outputs.publishers import Publishers
from vexkd_ros.share import REPOSITORY

TYPE_OF_DISPLAY = {
    "PointCloud2": "sensor_msgs/msg/PointCloud2",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "Map": "nav_msgs/msg/OccupancyGrid",
    "Image": "sensor_msgs/msg/Image",
}
RADARS = ("radar_front", "radar_front_left", "radar_front_right", "radar_back_left", "radar_back_right")
# Of docs/bags.md: what nuscenes_to_bag writes.
BAG_TOPICS = {
    "/lidar/points": "sensor_msgs/msg/PointCloud2",
    "/ground_truth/markers": "visualization_msgs/msg/MarkerArray",
    "/map/markers": "visualization_msgs/msg/MarkerArray",
    **{f"/ground_truth/map/{name}": "nav_msgs/msg/OccupancyGrid" for name in MAP_CLASSES},
    **{f"/{camera.lower()}/image/compressed": "sensor_msgs/msg/CompressedImage" for camera in CAMERAS},
    **{f"/{radar}/points": "sensor_msgs/msg/PointCloud2" for radar in RADARS},
}


@pytest.fixture(scope="module")
def manager() -> dict:
    return yaml.safe_load((REPOSITORY / "config" / "rviz" / "vexkd.rviz").read_text())["Visualization Manager"]


@pytest.fixture(scope="module")
def published() -> Iterator[dict[str, str]]:
    """Topics and types of student_node and comparison_node, as ROS's graph tells them."""
    rclpy.init(args=["test", "--ros-args", "-r", "__ns:=/"])
    student, comparison = LifecycleNode("student_node"), ComparisonNode()
    Publishers(student, load_config(REPOSITORY / "config" / "model" / "lidar_pillar_small.yaml"), print)
    yield {
        topic: types[0]
        for node in (student, comparison)
        for topic, types in node.get_publisher_names_and_types_by_node(node.get_name(), "/")
    }
    student.destroy_node()
    comparison.destroy_node()
    rclpy.shutdown()


def displays(entries: list[dict]) -> Iterator[dict]:
    """All displays, those in groups too."""
    for entry in entries:
        yield from displays(entry["Displays"]) if "Displays" in entry else [entry]


def shown(manager: dict) -> dict[str, str]:
    """Topic → type that a display of RViz reads there."""
    topics = {}
    for display in displays(manager["Displays"]):
        if "Topic" in display:
            topic, kind = (
                display["Topic"]["Value"],
                TYPE_OF_DISPLAY[display["Class"].removeprefix("rviz_default_plugins/")],
            )
            # RViz's image display hands a topic that ends like this to image_transport's plugin for it.
            topics[topic] = "sensor_msgs/msg/CompressedImage" if topic.endswith("/image/compressed") else kind
    return topics


def test_every_topic_that_it_shows_is_published_in_that_type(manager, published):
    assert {topic: (published | BAG_TOPICS).get(topic) for topic in shown(manager)} == shown(manager)


def test_it_shows_clouds_images_detections_truth_comparison_maps_and_transforms(manager):
    assert shown(manager).keys() == {
        *BAG_TOPICS,
        "/student_node/markers",
        "/comparison_node/markers",
        "/student_node/map_image",
        *(f"/student_node/map/{name}" for name in MAP_CLASSES),
    }
    assert "rviz_default_plugins/TF" in {display["Class"] for display in displays(manager["Displays"])}
    assert manager["Global Options"]["Fixed Frame"] == "base_link"


def test_latched_topics_are_asked_for_as_latched_and_sensors_as_best_effort(manager):
    asked = {
        display["Topic"]["Value"]: display["Topic"] for display in displays(manager["Displays"]) if "Topic" in display
    }
    assert {topic for topic, qos in asked.items() if qos["Durability Policy"] == "Transient Local"} == {"/map/markers"}
    best_effort = {topic for topic, qos in asked.items() if qos["Reliability Policy"] == "Best Effort"}
    assert best_effort == {topic for topic in asked if topic.endswith(("/points", "/image/compressed"))}


def test_markers_that_are_switched_on_or_off_bear_names_that_exist(manager):
    namespaces = {
        display["Topic"]["Value"]: set(display["Namespaces"])
        for display in displays(manager["Displays"])
        if "Namespaces" in display
    }
    assert namespaces["/student_node/markers"] == {"boxes", "velocity"}
    assert namespaces["/comparison_node/markers"] == {"hits", "false_alarms", "misses", "summary"}


@pytest.fixture(scope="module")
def layout() -> dict:
    return json.loads((REPOSITORY / "config" / "foxglove" / "vexkd.json").read_text())


def panels(tree: dict | str) -> list[str]:
    """Names of the panels in a layout, from left to right."""
    return [tree] if isinstance(tree, str) else panels(tree["first"]) + panels(tree["second"])


def test_every_panel_of_foxglove_is_configured_once(layout):
    assert sorted(panels(layout["layout"])) == sorted(layout["configById"])


def test_every_topic_of_foxglove_is_there(layout, published):
    infos = {f"/{camera.lower()}/camera_info" for camera in CAMERAS}
    there = published.keys() | BAG_TOPICS.keys() | infos | {"/diagnostics"}
    named = set()
    for panel in layout["configById"].values():
        image = panel.get("imageMode", {})
        named |= panel.get("topics", {}).keys() | {
            image[key] for key in ("imageTopic", "calibrationTopic") if key in image
        }
        named |= {path["value"].removesuffix(".data") for path in panel.get("paths", ())}
        named |= {panel["topicToRender"]} if "topicToRender" in panel else set()
    assert len(named) > 30 and named - there == set()
    assert {
        "/lidar/points",
        "/student_node/markers",
        *(f"/{camera.lower()}/image/compressed" for camera in CAMERAS),
    } <= named

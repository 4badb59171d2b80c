"""What a bag says of the drive: annotations, maps, CAN bus and places on Earth, against what was written by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from support.bag_content import messages_of, stamp_of
from support.full_nuscenes import START_US
from support.street import HEADING, ORIGIN, boxes_in_base, to_global

Messages = dict[str, list[tuple[int, object]]]
OTHER = "animal"  # none of the ten classes


def test_markers_of_annotations_stand_where_the_things_are_and_point_where_they_go(full_messages: Messages) -> None:
    for k, (stamp, array) in enumerate(full_messages["/ground_truth/markers"]):
        things = [(thing, box) for thing, box in boxes_in_base(k) if thing.category != OTHER]
        first, *others = array.markers
        assert (first.action, stamp_of(first.header)) == (3, stamp)
        cubes = [marker for marker in others if marker.ns == "boxes"]
        arrows = [marker for marker in others if marker.ns == "velocity"]
        for (thing, (x, y, z, length, width, height, yaw, vx, vy)), cube, arrow in zip(
            things, cubes, arrows, strict=True
        ):
            position, turn = cube.pose.position, cube.pose.orientation
            assert cube.header.frame_id == arrow.header.frame_id == "base_link"
            assert (cube.type, arrow.type) == (1, 0)
            np.testing.assert_allclose([position.x, position.y, position.z], [x, y, z], atol=1e-6)
            np.testing.assert_allclose([cube.scale.x, cube.scale.y, cube.scale.z], [length, width, height])
            turned = 2 * math.atan2(turn.z, turn.w) - yaw
            assert math.cos(turned) == pytest.approx(1)
            start, end = arrow.points
            np.testing.assert_allclose([start.x, start.y, start.z], [x, y, z], atol=1e-6)
            moved = [0, 0] if thing.keyframes else [vx, vy]  # seen once: its velocity is unknown
            np.testing.assert_allclose([end.x - x, end.y - y], moved, atol=1e-3)


def test_ground_truth_maps_show_the_street_in_base_link(full_messages: Messages) -> None:
    def at(name: str, k: int, x: float, y: float) -> int:
        stamp, grid = full_messages[f"/ground_truth/map/{name}"][k]
        assert (grid.header.frame_id, stamp_of(grid.header)) == ("base_link", stamp)
        origin, info = grid.info.origin.position, grid.info
        assert (info.width, info.height, round(info.resolution, 6)) == (200, 200, 0.5)
        column, row = int((x - origin.x) / info.resolution), int((y - origin.y) / info.resolution)
        return grid.data.reshape(info.height, info.width)[row, column]

    driven = 2.5  # between keyframes
    for k in range(3):
        assert at("drivable_area", k, 3, 5) == 100 and at("drivable_area", k, 3, 15) == 0
        assert at("walkway", k, 3, 9.6) == 100 and at("walkway", k, 3, 5) == 0
        assert at("ped_crossing", k, 18 - driven * k, 2) == 100 and at("ped_crossing", k, 25 - driven * k, 2) == 0
        assert at("stop_line", k, 14.7 - driven * k, -4) == 100
        assert at("carpark_area", k, -10 - driven * k, 20) == 100 and at("carpark_area", k, -17 - driven * k, 19) == 0
        assert at("divider", k, 3, 0) == 100 and at("divider", k, 3, 2) == 0
    keyframes = [stamp for stamp, _ in full_messages["/keyframe"]]
    assert [stamp for stamp, _ in full_messages["/ground_truth/map/divider"]] == keyframes


def test_the_map_is_outlined_around_the_drive_once_and_first(full_messages: Messages) -> None:
    ((stamp, array),) = full_messages["/map/markers"]
    assert stamp == min(stamp for messages in full_messages.values() for stamp, _ in messages)
    by_class = {marker.ns: marker for marker in array.markers}
    assert by_class.keys() == {
        "drivable_area",
        "ped_crossing",
        "walkway",
        "stop_line",
        "carpark_area",
        "divider",
        "centreline",
    }
    assert all(marker.header.frame_id == "odom" and marker.type == 5 for marker in array.markers)
    crossing = {(round(point.x, 3), round(point.y, 3)) for point in by_class["ped_crossing"].points}
    corners = to_global(np.array([(16, -8), (20, -8), (20, 8), (16, 8)], float)).round(3)
    assert crossing == {tuple(corner) for corner in corners.tolist()}
    centres = np.array([(point.x, point.y) for point in by_class["centreline"].points])
    along = (centres - ORIGIN) @ [np.cos(HEADING), np.sin(HEADING)]
    left = (centres - ORIGIN) @ [-np.sin(HEADING), np.cos(HEADING)]
    np.testing.assert_allclose(left, -2, atol=1e-3)
    assert (along.min(), along.max()) == (pytest.approx(0, abs=0.01), pytest.approx(20, abs=1.1))
    way = np.array([to_global([0, 0]), to_global([5, 0])])
    for marker in array.markers:
        points = np.array([(point.x, point.y) for point in marker.points])
        assert len(points) and len(points) % 2 == 0
        assert np.linalg.norm(points[:, None] - way, axis=2).min(axis=1).max() < 78  # 75 m around each keyframe


def test_the_can_bus_is_in_the_bag_as_measured(full_messages: Messages) -> None:
    imu = full_messages["/imu"]
    assert [stamp for stamp, _ in imu] == [1000 * (START_US + 10_000 * i) for i in range(20)]
    for i, (stamp, message) in enumerate(imu):
        turn, rate, pull = message.orientation, message.angular_velocity, message.linear_acceleration
        assert (message.header.frame_id, stamp_of(message.header)) == ("imu", stamp)
        assert [turn.w, turn.x, turn.y, turn.z] == [0.5, 0.5, -0.5, 0.5]
        assert [rate.x, rate.y, rate.z] == [0.01, 0.02, 0.03 * i]
        assert [pull.x, pull.y, pull.z] == [0.1 * i, -0.2, 9.8]
    poses = full_messages["/can_bus/pose"]
    assert len(poses) == 10
    for i, (_, message) in enumerate(poses):
        position, twist = message.pose.pose.position, message.twist.twist
        assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
        np.testing.assert_allclose([position.x, position.y, position.z], to_global([0.1 * i, 0, 0]))
        assert (twist.linear.x, twist.angular.z) == (5.0, 0.1)
    (_, vehicle), _ = full_messages["/can_bus/vehicle_monitor"]
    assert {pair.key: pair.value for pair in vehicle.status[0].values} == {"brake": "3", "steering": "-1.5"}


def test_a_scene_without_can_bus_has_no_such_topics(full_bags: dict[str, Path]) -> None:
    topics = messages_of(full_bags["scene-0103"]).keys()
    assert not {topic for topic in topics if topic.startswith(("/imu", "/can_bus"))}
    assert "/lidar/points" in topics


def test_latitude_and_longitude_are_metres_from_the_maps_origin(full_messages: Messages) -> None:
    """One-north's south-western corner, and a degree of a great circle on a sphere of 6,378.137 km."""
    degree = math.pi * 6_378_137 / 180
    positions = [message for _, message in full_messages["/gps"]]
    assert len(positions) == len(full_messages["/lidar/points"])
    for position, (_, odometry) in zip(positions, full_messages["/odom"], strict=True):
        x, y = odometry.pose.pose.position.x, odometry.pose.pose.position.y
        assert (position.latitude - 1.2882100868743724) * degree == pytest.approx(y, abs=0.05)
        east = (position.longitude - 103.78475189208984) * degree * math.cos(math.radians(position.latitude))
        assert east == pytest.approx(x, abs=0.05)
        assert math.isnan(position.altitude)
        assert position.position_covariance_type == 0, "unknown"

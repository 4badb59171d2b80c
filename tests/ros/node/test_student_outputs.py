"""Prediction → messages: geometry as RViz and other nodes will read it."""

import struct
from dataclasses import replace

import cv_bridge
import numpy as np
import pytest
from std_msgs.msg import Header

from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.types import MAP_CLASSES, BevGrid, Boxes, Prediction
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.outputs.map_grids import grid_message, image_message, label_info_message, labels_message
from vexkd_ros.outputs.markers import markers_message
from vexkd_ros.outputs.velocities import velocities_message

GRID = BevGrid(-3.0, 3.0, -2.0, 2.0, 1.0)  # 4 rows along y, 6 columns along x


def prediction() -> Prediction:
    """A car 10 m ahead that drives to the left, a pedestrian of unknown velocity; drivable at the far left corner."""
    boxes = np.array(
        [[10, 1, 0.5, 4, 2, 1.5, np.pi / 2, 0, 3], [2, 2, 1, 0.5, 0.5, 1.8, 0, np.nan, np.nan]], np.float32
    )
    probabilities = np.zeros((len(MAP_CLASSES), *GRID.shape), np.float32)
    probabilities[0, 3, 5] = 0.876
    return Prediction(Boxes(boxes, np.array([0, 8])), np.array([0.9, 0.2], np.float32), probabilities, GRID, 0)


def test_a_detection_says_what_it_is_where_it_is_and_which_way_it_looks():
    car, pedestrian = detections_message(prediction(), Header(frame_id="base_link")).detections
    assert car.results[0].hypothesis.class_id == "car"
    assert car.results[0].hypothesis.score == pytest.approx(0.9)
    assert car.results[0].pose.pose == car.bbox.center
    assert (car.bbox.size.x, car.bbox.size.y, car.bbox.size.z) == (4, 2, 1.5)
    assert 2 * np.arctan2(car.bbox.center.orientation.z, car.bbox.center.orientation.w) == pytest.approx(np.pi / 2)
    assert pedestrian.results[0].hypothesis.class_id == "pedestrian"


def test_a_detection_says_how_far_it_may_be_off():
    known = replace(prediction(), deviations=np.float32([[0.4, 0.2, 0.1, 0.05, 1, 1], [np.nan] * 6]))
    car, pedestrian = (one.results[0].pose.covariance for one in detections_message(known, Header()).detections)
    assert car.reshape(6, 6)[[2, 5], [2, 5]] == pytest.approx([0.01, 0.0025])
    assert 0.15 < car[0] < 0.16 and car[7] == pytest.approx(0.2 - car[0], rel=1e-5)  # nearly ahead, trace 0.4² + 0.2²
    assert not pedestrian.any()


def test_an_arrow_ends_where_the_object_is_in_a_second():
    markers = markers_message(prediction(), Header()).markers
    car, pedestrian = [m.points for m in markers if m.ns == "velocity"]
    assert (car[0].x, car[0].y, car[1].x, car[1].y) == (10, 1, 10, 4)
    assert pedestrian[0] == pedestrian[1]


def test_a_velocity_stands_at_the_place_of_its_detection_in_their_order():
    message = velocities_message(prediction(), Header(frame_id="base_link"))
    assert message.header.frame_id == "base_link" and (message.height, message.width) == (1, 2)
    assert [(one.name, one.offset) for one in message.fields] == [("x", 0), ("y", 4), ("z", 8), ("vx", 12), ("vy", 16)]
    numbers = struct.unpack("<10f", bytes(message.data))
    assert numbers[:8] == (10, 1, 0.5, 0, 3, 2, 2, 1)
    assert np.isnan(numbers[8:]).all() and not message.is_dense


def test_a_cell_of_the_grid_lies_where_the_model_says():
    message = grid_message(prediction(), Header(), 0)
    index = int(np.argmax(message.data))
    row, column = divmod(index, message.info.width)
    x = message.info.origin.position.x + (column + 0.5) * message.info.resolution
    y = message.info.origin.position.y + (row + 0.5) * message.info.resolution
    assert (x, y) == (2.5, 1.5)
    assert message.data[index] == 88


def test_the_picture_shows_what_is_ahead_on_top_and_what_is_left_on_the_left():
    picture = cv_bridge.CvBridge().imgmsg_to_cv2(image_message(prediction(), Header()), "rgb8")
    assert picture.shape == (6, 4, 3)
    assert tuple(picture[0, 0]) == MAP_COLOURS["drivable_area"]
    assert (picture.reshape(-1, 3)[1:] == 255).all()


def test_a_label_is_the_class_that_the_picture_shows_at_the_same_place():
    overlapping = prediction()
    overlapping.map_probabilities[0, :2] = 0.7
    overlapping.map_probabilities[MAP_CLASSES.index("divider"), 0] = 0.6
    name_of = {c.class_id: c.class_name for c in label_info_message(Header()).class_map}
    assert list(name_of.values()) == ["background", *MAP_CLASSES]
    bridge = cv_bridge.CvBridge()
    picture = bridge.imgmsg_to_cv2(image_message(overlapping, Header()), "rgb8")
    labels = bridge.imgmsg_to_cv2(labels_message(overlapping, Header()), "mono8")
    assert {name_of[label] for label in labels.flat} == {"background", "drivable_area", "divider"}
    colour_of = MAP_COLOURS | {"background": (255, 255, 255)}
    assert (picture == np.array([[colour_of[name_of[label]] for label in row] for row in labels])).all()

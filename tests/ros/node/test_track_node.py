"""A real track_node process over real DDS: a vehicle that drives and turns, a car, a cone, and what goes wrong."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
import yaml
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from support.other_node import TIMEOUT_S, OtherNode
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from vexkd_model.tracking.classes import MOTION, NOISE
from vexkd_model.tracking.kalman import Motion, Noise
from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.outputs.velocities import velocities_message
from vexkd_ros.share import REPOSITORY
from vexkd_ros.track_node import TrackNode

STEP_S = 0.1
CAR, CONE = DETECTION_CLASSES.index("car"), DETECTION_CLASSES.index("traffic_cone")
CAR_AT, CAR_MPS = np.array([20.0, 5.0]), np.array([6.0, -2.0])  # in odom, at the beginning
CONE_AT = np.array([30.0, -4.0])


def ego(step: int) -> tuple[float, float, float]:
    """x, y, yaw of the vehicle in odom: it drives at 8 m/s and turns at 0.2 rad/s."""
    return 8.0 * step * STEP_S, 0.5, 0.2 * step * STEP_S


def base_from_odom(yaw: float) -> np.ndarray:
    return np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]])


def in_base(place: np.ndarray, step: int) -> np.ndarray:
    x, y, yaw = ego(step)
    return base_from_odom(yaw) @ (place - (x, y))


def true_places(step: int) -> dict[int, np.ndarray]:
    return {CAR: in_base(CAR_AT + CAR_MPS * step * STEP_S, step), CONE: in_base(CONE_AT, step)}


class Surroundings(OtherNode):
    """Publishes transforms and detections and collects the node's answers by their step."""

    def __init__(self) -> None:
        super().__init__()
        self.tf = self.node.create_publisher(TFMessage, "/tf", 100)
        self.found = self.node.create_publisher(Detection3DArray, "detections", 10)
        self.velocities = self.node.create_publisher(PointCloud2, "velocities", 10)
        self.tracks: dict[float, Detection3DArray] = {}
        self.markers: dict[float, list[Marker]] = {}
        self.node.create_subscription(Detection3DArray, "track_node/tracks", self._keep_tracks, 10)
        self.node.create_subscription(MarkerArray, "track_node/markers", self._keep_markers, 10)

    def _keep_tracks(self, message: Detection3DArray) -> None:
        self.tracks[seconds(message.header.stamp)] = message

    def _keep_markers(self, message: MarkerArray) -> None:
        self.markers[seconds(message.markers[0].header.stamp)] = message.markers

    def publish(
        self,
        start: float,
        step: int,
        labels: tuple[int, ...] = (CAR, CONE),
        noise: float = 0.0,
        topics: tuple[str, ...] = ("tf", "detections"),
        measured: np.ndarray | None = None,
    ) -> float:
        """Publish a step of the drive that began at `start` [s], or one half of it; return its time.

        measured: velocity of the car in odom, as a student reports it whatever the car does, after the detections.
        """
        now = round(start + step * STEP_S, 3)
        stamp, (x, y, yaw) = Time(sec=int(now), nanosec=round(now % 1 * 1e9)), ego(step)
        transform = TransformStamped(header=Header(stamp=stamp, frame_id="odom"), child_frame_id="base_link")
        transform.transform.translation.x, transform.transform.translation.y = x, y
        transform.transform.rotation.z, transform.transform.rotation.w = math.sin(yaw / 2), math.cos(yaw / 2)
        if "tf" in topics:
            self.tf.publish(TFMessage(transforms=[transform]))
        if "detections" not in topics:
            return now
        random = np.random.default_rng(step)
        heading = math.atan2(CAR_MPS[1], CAR_MPS[0]) - yaw
        places = [true_places(step)[label] + noise * random.normal(size=2) for label in labels]
        vx, vy = (math.nan, math.nan) if measured is None else base_from_odom(yaw) @ measured
        values = [[*place, 0.5, 4.5, 1.9, 1.6, heading if label == CAR else 0.0, vx, vy]
                  for label, place in zip(labels, places, strict=True)]  # fmt: skip
        boxes = Boxes(np.array(values, np.float32).reshape(-1, 9), np.array(labels, int))
        prediction = Prediction(boxes, np.full(len(labels), 0.9, np.float32), None, None, 0)
        header = Header(stamp=stamp, frame_id="base_link")
        self.found.publish(detections_message(prediction, header))
        if measured is not None:
            self.velocities.publish(velocities_message(prediction, header))
        return now

    def arrow(self, now: float, number: str) -> np.ndarray:
        """Wait for the markers of a time; return the velocity in odom that the arrow of a number shows."""
        self.wait_for(lambda: now in self.markers)
        ends = next(one.points for one in self.markers[now] if one.ns == "velocity" and str(one.id) == number)
        yaw = ego(round(now % 10 / STEP_S))[2]
        return base_from_odom(yaw).T @ (ends[1].x - ends[0].x, ends[1].y - ends[0].y)

    def answer(self, now: float) -> dict[str, tuple[str, np.ndarray]]:
        """Wait for the tracks of a time; return number and (x, y) by class."""
        self.wait_for(lambda: now in self.tracks)
        return {
            one.results[0].hypothesis.class_id: (
                one.id,
                np.array([one.bbox.center.position.x, one.bbox.center.position.y]),
            )
            for one in self.tracks[now].detections
        }


def seconds(stamp: Time) -> float:
    return round(stamp.sec + stamp.nanosec * 1e-9, 3)


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, "-m", "vexkd_ros.track_node"], stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def around(process: subprocess.Popen) -> Iterator[Surroundings]:
    around = Surroundings()
    around.wait_for(lambda: around.found.get_subscription_count() and around.tf.get_subscription_count())

    def is_answered() -> bool:  # the node's side of the discovery may still be on its way
        around.publish(50.0, 0)
        return 50.0 in around.tracks and 50.0 in around.markers

    around.wait_for(is_answered)
    yield around
    around.close()


def test_objects_keep_their_numbers_while_the_vehicle_turns_and_their_velocity_is_found(around):
    numbers = set()
    for step in range(25):
        now = around.publish(100.0, step, noise=0.15)
        found = around.answer(now)
        if step:  # from the second detection on
            assert found.keys() == {"car", "traffic_cone"}
            numbers.add((found["car"][0], found["traffic_cone"][0]))
    assert len(numbers) == 1 and len(set(next(iter(numbers)))) == 2
    errors = [np.linalg.norm(found[DETECTION_CLASSES[label]][1] - place) for label, place in true_places(24).items()]
    assert max(errors) < 0.3
    assert np.linalg.norm(around.arrow(now, found["car"][0]) - CAR_MPS) < 1.0
    trail = next(one for one in around.markers[now] if one.ns == "trails" and str(one.id) == found["car"][0])
    assert len(trail.points) == 25


def test_an_object_that_was_hidden_for_a_second_has_its_number_back_and_a_longer_absence_makes_a_new_one(around):
    for step in range(10):
        before = around.answer(around.publish(200.0, step))
    for step in range(10, 20):
        assert around.answer(around.publish(200.0, step, (CONE,))).keys() == {"traffic_cone"}
    again = around.answer(around.publish(200.0, 20))
    assert again["car"][0] == before["car"][0] and again["traffic_cone"][0] == before["traffic_cone"][0]
    for step in range(21, 40):
        around.answer(around.publish(200.0, step, (CONE,)))
    around.answer(around.publish(200.0, 40))
    assert around.answer(around.publish(200.0, 41))["car"][0] != before["car"][0]


def test_time_that_jumps_back_begins_anew(around):
    for step in range(3):
        before = around.answer(around.publish(300.0, step))
    for step in range(12):  # transforms of a jump are believed after some messages
        now = around.publish(260.0, step)
        time.sleep(0.02)
    after = around.answer(now)
    assert not {number for number, _ in after.values()} & {number for number, _ in before.values()}


def test_detections_wait_for_transforms_that_come_later(around):
    around.answer(around.publish(400.0, 0))
    for step in range(1, 6):
        around.publish(400.0, step, topics=("detections",))
    for step in range(1, 6):
        now = around.publish(400.0, step, topics=("tf",))
        assert around.answer(now).keys() == {"car", "traffic_cone"}


def least_squares(places: np.ndarray, velocities: np.ndarray, noise: Noise, motion: Motion) -> np.ndarray:
    """Velocity at the last of two moments, of one coordinate: all measurements at once, no filter."""
    dt, jerk = STEP_S, motion.acceleration**2
    moves = np.linalg.cholesky(jerk * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]))
    white = np.linalg.inv(moves)
    unknown = np.eye(4)  # position and velocity, then and now
    # Velocities of 0.5 s share their error: the second one is a fifth of a measurement.
    sigmas = np.array([noise.position, noise.velocity, noise.position, noise.velocity * math.sqrt(0.5 / dt)])
    rows = np.vstack([unknown / sigmas[:, None], white @ np.hstack([-np.array([[1, dt], [0, 1]]), np.eye(2)])])
    told = np.concatenate([np.ravel([places, velocities], "F") / sigmas, np.zeros(2)])
    return np.linalg.lstsq(rows, told, rcond=None)[0][3]


def test_measured_velocities_count_as_much_as_the_filters_noise_says(around):
    velocity = np.array([3.0, 7.0])  # not that of the places, so that both can be told apart in the answer

    def is_taken() -> bool:  # of the first detections, velocities may come too late
        now = around.publish(500.0, next(steps), (CAR,), measured=velocity)
        found = around.answer(now)
        return found and np.linalg.norm(around.arrow(now, found["car"][0]) - CAR_MPS) > 2.0

    steps = iter(range(100))
    around.wait_for(is_taken)
    for step in range(2):
        now = around.publish(600.0, step, (CAR,), measured=velocity)
        found = around.answer(now)
    places = [CAR_AT + CAR_MPS * step * STEP_S for step in range(2)]
    expected = [least_squares(np.array(places)[:, i], velocity[[i, i]], NOISE[CAR], MOTION[CAR]) for i in range(2)]
    np.testing.assert_allclose(around.arrow(now, found["car"][0]), expected, atol=0.01)


def test_detections_are_answered_where_their_velocities_get_lost(around):
    for step in range(4):
        around.answer(around.publish(700.0, step, (CAR,), measured=None if step == 2 else CAR_MPS))
    for step in range(12):
        around.answer(around.publish(800.0, step, (CAR,)))


def test_detections_with_a_stamp_that_no_clock_has_keep_no_others_waiting(around):
    around.found.publish(Detection3DArray(header=Header(stamp=Time(sec=-1), frame_id="base_link")))
    for step in range(3):
        around.answer(around.publish(900.0, step))


def test_ctrl_c_ends_it_well(process, around):
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 0
    log = process.stderr.read()
    assert "takes measured velocities from /velocities" in log
    assert "no velocities on /velocities: they are found from positions alone" in log.partition("takes measured")[2]


def test_the_parameter_file_names_every_parameter_with_its_default():
    written = yaml.safe_load((REPOSITORY / "config/node/track_node.yaml").read_text())["/**"]["ros__parameters"]
    rclpy.init()
    node = TrackNode()
    declared = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    node.destroy_node()
    rclpy.shutdown()
    assert written.items() <= declared.items()
    assert declared.keys() - written.keys() <= {"use_sim_time", "start_type_description_service"}

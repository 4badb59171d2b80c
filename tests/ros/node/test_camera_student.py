"""A student_node with three cameras over real DDS: it predicts what offline prediction gives of the same images."""

from array import array

import cv2
import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, CompressedImage

from vexkd_model.data.images import StoredImage, decode, view_of
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.geometry.transforms import inverse, matrix_from_pose
from vexkd_model.types import DETECTION_CLASSES, POINT_FIELDS, CameraImage, Frame, PastFrame

MS, SECOND = 1_000_000, 10**9
TOPICS = ("left", "front", "right")
SIZE = (320, 120)
INTRINSICS = np.array([[250.0, 0, 160], [0, 250, 60], [0, 0, 1]])
LOOKING_FORWARD = (0.5, -0.5, 0.5, -0.5)
MOUNTS = {
    "left": ((1.5, 0.5, 1.5), (0.653, -0.271, 0.271, -0.653)),
    "front": ((1.7, 0.0, 1.5), LOOKING_FORWARD),
    "right": ((1.5, -0.5, 1.5), (0.271, -0.653, 0.653, -0.271)),
}
OFFSETS = (-12 * MS, 0, 12 * MS)


def table(detections) -> np.ndarray:
    """(M, 8) x, y, z, length, width, height, class, score."""
    return np.array(
        [
            [
                d.bbox.center.position.x,
                d.bbox.center.position.y,
                d.bbox.center.position.z,
                d.bbox.size.x,
                d.bbox.size.y,
                d.bbox.size.z,
                DETECTION_CLASSES.index(d.results[0].hypothesis.class_id),
                d.results[0].hypothesis.score,
            ]
            for d in detections.detections
        ]
    )


def expected_table(prediction) -> np.ndarray:
    return np.column_stack([prediction.boxes.values[:, :6], prediction.boxes.labels, prediction.scores])


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def jpegs(seed: int) -> list[bytes]:
    """Three pictures of blots."""
    random = np.random.default_rng(seed)
    blots = [
        cv2.resize(random.integers(0, 256, (6, 16, 3), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC) for _ in TOPICS
    ]
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in blots]


class Rig:
    """Three cameras on the vehicle."""

    def __init__(self, vehicle) -> None:
        self.vehicle = vehicle
        create = vehicle.node.create_publisher
        self.images = [create(CompressedImage, f"{topic}/image/compressed", 10) for topic in TOPICS]
        self.infos = [create(CameraInfo, f"{topic}/camera_info", 10) for topic in TOPICS]
        vehicle.send_static("base_link", **MOUNTS)

    def send_info(self, *cameras: int, size: tuple[int, int] = SIZE) -> None:
        scale = np.diag([size[0] / SIZE[0], size[1] / SIZE[1], 1])
        for camera in cameras or range(len(TOPICS)):
            info = CameraInfo(width=size[0], height=size[1], k=(scale @ INTRINSICS).ravel().tolist())
            info.header.frame_id = TOPICS[camera]
            self.infos[camera].publish(info)

    def send(self, pictures: list[bytes | None], stamp_ns: int | None = None, poses: list[tuple] | None = None) -> int:
        """Publish images around a moment and, where given, the ego pose at each of their stamps and at the moment.
        Returns the stamp of the moment, by default that of a new scene: the mean of those images that are there."""
        if stamp_ns is None:
            self.vehicle.stamp_ns += 60 * SECOND
            stamp_ns = self.vehicle.stamp_ns
        self.vehicle.now_follows_an_input()
        stamps = [stamp_ns + offset for offset in OFFSETS]
        sent = [stamp for stamp, picture in zip(stamps, pictures, strict=True) if picture is not None]
        moment = sum(sent) // len(sent)
        for stamp, pose in zip((*stamps, moment), poses or (), strict=False):
            self.vehicle.send_odometry(stamp, pose)
        for publisher, topic, stamp, picture in zip(self.images, TOPICS, stamps, pictures, strict=True):
            if picture is not None:
                message = CompressedImage(format="jpeg", data=array("B", picture))
                message.header.frame_id = topic
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
                publisher.publish(message)
        return moment


def driving(i: int) -> list[tuple]:
    """Ego poses at the three images and at the moment, somewhere in a city; every i is half a second later."""

    def pose(seconds: float) -> tuple:
        turn = 0.05 * seconds
        return (600.0 + 8 * seconds, 1600.0 - 2 * seconds, 0.02), (np.cos(turn), 0.0, 0.0, np.sin(turn))

    return [pose(0.5 * i + offset * 1e-9) for offset in (*OFFSETS, 0)]


def views(predictor, pictures: list[bytes | None], poses: list[tuple] | None) -> tuple[CameraImage, ...]:
    """What the student should see, with matrices multiplied out here."""
    config, found = predictor.config.camera.images, []
    odom_from_base = [matrix_from_pose(*pose) for pose in poses] if poses else [np.eye(4)] * 4
    for i, (name, topic, picture) in enumerate(zip(config.cameras, TOPICS, pictures, strict=True)):
        if picture is not None:
            content = np.frombuffer(picture, np.uint8)
            pixels, image_from_stored = view_of(StoredImage(SIZE, lambda r, c=content: decode(c, r)), config)
            base_from_camera = inverse(odom_from_base[3]) @ odom_from_base[i] @ matrix_from_pose(*MOUNTS[topic])
            found.append(CameraImage(name, pixels, 0, INTRINSICS, image_from_stored, base_from_camera))
    return tuple(found)


def offline(predictor, pictures, poses=None, past=()):
    frame = Frame(np.empty((0, len(POINT_FIELDS)), np.float32), 0, cameras=views(predictor, pictures, poses), past=past)
    return expected_table(predictor.predict(frame))


@pytest.fixture(scope="module")
def predictor(camera_package):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Predictor.load(camera_package)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def node(start_node, camera_package):
    node = start_node(
        model=camera_package,
        precision="float32",
        threads=1,
        input_reliability="reliable",
        tf_timeout=1.0,
        cameras="[left, front, right]",
        image_transport="compressed",
        camera_deadline=1.0,
    )
    yield node
    assert node.process.poll() is None, node.log
    assert node.stop() == 0, node.log


@pytest.fixture(scope="module")
def rig(node, vehicle):
    rig = Rig(vehicle)
    vehicle.wait_until_node_listens(*rig.images, *rig.infos)
    return rig


def test_images_before_any_camera_info_are_dropped_and_said_so_and_answered_once_it_is_there(vehicle, rig):
    rig.send(jpegs(1))
    status = vehicle.status_that_says("no camera has a usable image")
    assert status.level == DiagnosticStatus.ERROR
    rig.send_info()
    vehicle.result(rig.send(jpegs(1), poses=driving(0)))


def test_a_moment_gives_what_offline_prediction_gives_with_the_vehicle_moving_between_the_images(
    vehicle, rig, predictor
):
    stamp = rig.send(jpegs(2), poses=driving(3))
    assert_same(table(vehicle.result(stamp)), offline(predictor, jpegs(2), driving(3)))


def test_without_odometry_the_vehicle_counts_as_standing_and_it_is_said(vehicle, rig, predictor):
    stamp = rig.send(jpegs(2))
    assert_same(table(vehicle.result(stamp)), offline(predictor, jpegs(2)))
    vehicle.status_that_says("motion between images is not known: no transform odom → base_link")


def test_half_a_second_later_the_student_remembers_and_a_jump_in_time_makes_it_forget(vehicle, rig, predictor):
    first = rig.send(jpegs(3), poses=driving(0))
    vehicle.result(first)
    second = rig.send(jpegs(4), first + SECOND // 2, poses=driving(1))
    odom = [matrix_from_pose(*driving(i)[3]) for i in (0, 1)]
    past = (PastFrame(views(predictor, jpegs(3), driving(0)), inverse(odom[1]) @ odom[0]),)
    expected = offline(predictor, jpegs(4), driving(1), past)
    assert np.abs(expected - offline(predictor, jpegs(4), driving(1))).max() > 1e-3  # it matters
    assert_same(table(vehicle.result(second)), expected)
    back = rig.send(jpegs(4), first - 20 * SECOND, poses=driving(1))
    assert_same(table(vehicle.result(back)), offline(predictor, jpegs(4), driving(1)))
    vehicle.status_that_says("time went back between images")


def test_an_unplugged_camera_is_masked_and_named_and_back_it_counts_again(vehicle, rig, predictor):
    pictures = jpegs(5)
    stamp = rig.send([pictures[0], None, pictures[2]], poses=[driving(0)[3]] * 4)
    assert_same(table(vehicle.result(stamp)), offline(predictor, [pictures[0], None, pictures[2]]))
    vehicle.status_that_says("front: no image at this moment: the camera is masked")
    stamp = rig.send(pictures, poses=[driving(0)[3]] * 4)
    assert_same(table(vehicle.result(stamp)), offline(predictor, pictures))


@pytest.mark.parametrize("damage", [lambda data: data[:300], lambda data: b"no picture"], ids=["truncated", "corrupt"])
def test_a_damaged_jpeg_masks_its_camera_alone(vehicle, rig, predictor, damage):
    pictures = jpegs(6)
    stamp = rig.send([pictures[0], pictures[1], damage(pictures[2])], poses=[driving(0)[3]] * 4)
    assert_same(table(vehicle.result(stamp)), offline(predictor, [*pictures[:2], None]))
    vehicle.status_that_says("right: the image is")
    assert vehicle.result(rig.send(pictures, poses=[driving(0)[3]] * 4)).detections


def test_a_black_image_counts_as_no_image(vehicle, rig, predictor):
    pictures = jpegs(7)
    black = cv2.imencode(".jpg", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))[1].tobytes()
    stamp = rig.send([pictures[0], black, pictures[2]], poses=[driving(0)[3]] * 4)
    assert_same(table(vehicle.result(stamp)), offline(predictor, [pictures[0], None, pictures[2]]))


def test_camera_info_may_change_to_that_of_a_larger_image_and_the_images_count_as_scaled(vehicle, rig, predictor):
    rig.send_info(size=(2 * SIZE[0], 2 * SIZE[1]))
    stamp = rig.send(jpegs(8), poses=[driving(0)[3]] * 4)
    assert_same(table(vehicle.result(stamp)), offline(predictor, jpegs(8)))
    rig.send_info()

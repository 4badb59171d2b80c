"""Raw images over real DDS, for the stamps of a reference topic: what cannot be read masks its camera alone."""

from array import array

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

MS, SECOND = 1_000_000, 10**9
TOPICS = ("left", "front", "right")
WIDTH, HEIGHT = 160, 60
MOUNT = ((1.7, 0.0, 1.5), (0.5, -0.5, 0.5, -0.5))


def grey_picture(seed: int) -> np.ndarray:
    """(HEIGHT, WIDTH) of broad bars, so that every way to colour it gives nearly the same."""
    return np.kron(np.random.default_rng(seed).integers(0, 256, (3, 8), np.uint8), np.ones((20, 20), np.uint8))


def image(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    return Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=rows.shape[1],
        data=array("B", rows.tobytes()),
    )


def grey(seed: int) -> Image:
    return image(grey_picture(seed), "mono8")


class Rig:
    def __init__(self, vehicle) -> None:
        self.vehicle = vehicle
        create = vehicle.node.create_publisher
        self.images = [create(Image, f"{topic}/image", 10) for topic in TOPICS]
        self.infos = [create(CameraInfo, f"{topic}/camera_info", 10) for topic in TOPICS]
        self.reference = create(Header, "reference", 10)
        vehicle.send_static("base_link", **dict.fromkeys(TOPICS, MOUNT))

    def send_infos(self) -> None:
        for publisher, topic in zip(self.infos, TOPICS, strict=True):
            info = CameraInfo(width=WIDTH, height=HEIGHT, k=[120.0, 0, 80, 0, 120, 30, 0, 0, 1])
            info.header.frame_id = topic
            publisher.publish(info)

    def send_image(self, camera: int, message: Image, stamp_ns: int) -> None:
        message.header.frame_id = TOPICS[camera]
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
        self.images[camera].publish(message)

    def refer(self, stamp_ns: int) -> None:
        header = Header()
        header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, SECOND)
        self.reference.publish(header)

    def answer(self, *messages: Image | None, offsets_ms: tuple = (0, 0, 0), stamp_ns: int | None = None) -> list:
        """Send the images at their offsets to a moment, and its reference; the scores that come back."""
        if stamp_ns is None:
            self.vehicle.stamp_ns += 60 * SECOND
            stamp_ns = self.vehicle.stamp_ns
        self.vehicle.now_follows_an_input()
        self.vehicle.send_odometry(stamp_ns)
        for camera, (message, offset) in enumerate(zip(messages, offsets_ms, strict=True)):
            if message is not None:
                self.vehicle.send_odometry(stamp_ns + offset * MS)
                self.send_image(camera, message, stamp_ns + offset * MS)
        self.refer(stamp_ns)
        return [d.results[0].hypothesis.score for d in self.vehicle.result(stamp_ns).detections]


@pytest.fixture(scope="module")
def rig(start_node, camera_package, vehicle):
    node = start_node(
        model=camera_package,
        threads=1,
        input_reliability="reliable",
        tf_timeout=1.0,
        cameras="[left, front, right]",
        use_reference="true",
        camera_deadline=1.0,
    )
    rig = Rig(vehicle)
    vehicle.wait_until_node_listens(*rig.images, *rig.infos, rig.reference)
    rig.send_infos()
    yield rig
    assert node.process.poll() is None, node.log
    assert node.stop() == 0, node.log


@pytest.fixture(scope="module")
def whole(rig):
    """The answer to three grey images."""
    return rig.answer(grey(1), grey(2), grey(3))


@pytest.fixture(scope="module")
def without_front(rig, whole):
    """The answer to the left and the right one alone."""
    answer = rig.answer(grey(1), None, grey(3))
    assert not np.allclose(answer, whole, atol=1e-3)
    return answer


@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        (lambda pixels: image(np.repeat(pixels[:, :, None], 3, axis=2), "bgr8", padding=5), 1e-6),
        (lambda pixels: image(pixels, "bayer_rggb8"), 0.05),  # the edges of bars are guessed
        (lambda pixels: image(pixels.astype(np.uint16) * 257, "mono16", padding=2), 1e-6),
    ],
    ids=["bgr with padded rows", "bayer", "sixteen bits"],
)
def test_an_image_of_another_encoding_gives_the_same_answer(rig, whole, make, tolerance):
    np.testing.assert_allclose(rig.answer(grey(1), make(grey_picture(2)), grey(3)), whole, atol=tolerance)


def test_an_encoding_that_is_no_picture_masks_its_camera(rig, without_front):
    depths = image(np.ones((HEIGHT, WIDTH), np.float32), "32FC1")
    np.testing.assert_allclose(rig.answer(grey(1), depths, grey(3)), without_front, atol=1e-6)
    rig.vehicle.status_that_says("front: the image's encoding '32FC1' cannot be made RGB")


def test_an_image_that_is_shorter_than_it_says_masks_its_camera(rig, without_front):
    short = grey(2)
    short.data = short.data[:1000]
    np.testing.assert_allclose(rig.answer(grey(1), short, grey(3)), without_front, atol=1e-6)
    rig.vehicle.status_that_says("front: the image has less data than it declares")


def test_an_image_of_another_size_counts_as_scaled(rig, whole):
    twice = image(np.kron(grey_picture(2), np.ones((2, 2), np.uint8)), "mono8")
    np.testing.assert_allclose(rig.answer(grey(1), twice, grey(3)), whole, atol=0.05)


def test_an_image_outside_the_tolerance_masks_its_camera_before_or_after_the_moment(rig, without_front):
    for offset in (-90, 90):
        answer = rig.answer(grey(1), grey(2), grey(3), offsets_ms=(0, offset, 0))
        np.testing.assert_allclose(answer, without_front, atol=1e-6)
        rig.vehicle.status_that_says("front: no image at this moment")


def test_a_camera_at_half_rate_is_there_every_second_time(rig, whole, without_front):
    rig.vehicle.stamp_ns += 60 * SECOND
    start, seen = rig.vehicle.stamp_ns, []
    for i in range(4):
        seen.append(rig.answer(grey(1), grey(2) if i % 2 == 0 else None, grey(3), stamp_ns=start + i * 100 * MS))
    rig.vehicle.stamp_ns = start + SECOND
    assert [np.isclose(len(scores) and scores[0], whole[0], atol=1e-2) for scores in seen[::2]] == [True, True]
    assert all(len(scores) for scores in seen)


def test_stamps_out_of_order_are_said_and_the_newer_image_stays(rig, whole):
    rig.vehicle.stamp_ns += 60 * SECOND
    stamp = rig.vehicle.stamp_ns
    rig.send_image(1, grey(2), stamp)
    rig.send_image(1, grey(9), stamp - 30 * MS)
    answer = rig.answer(grey(1), None, grey(3), stamp_ns=stamp)
    np.testing.assert_allclose(answer, whole, atol=1e-6)
    rig.vehicle.status_that_says("front: an image came after a newer one of the same camera")


def test_a_frame_that_tf_does_not_know_masks_its_camera(rig, without_front):
    lost = grey(2)
    rig.vehicle.stamp_ns += 60 * SECOND
    lost.header.stamp.sec, lost.header.stamp.nanosec = divmod(rig.vehicle.stamp_ns, SECOND)
    lost.header.frame_id = "somewhere"
    rig.images[1].publish(lost)
    answer = rig.answer(grey(1), None, grey(3), stamp_ns=rig.vehicle.stamp_ns)
    np.testing.assert_allclose(answer, without_front, atol=1e-6)
    rig.vehicle.status_that_says("front: no transform base_link → somewhere")


def test_a_reference_without_any_image_is_dropped_and_said(rig):
    rig.vehicle.stamp_ns += 60 * SECOND
    rig.vehicle.now_follows_an_input()
    for camera in range(len(TOPICS)):
        rig.send_image(camera, grey(camera), rig.vehicle.stamp_ns + SECOND)
    rig.refer(rig.vehicle.stamp_ns)
    rig.vehicle.status_that_says("no camera has a usable image")
    assert rig.answer(grey(1), grey(2), grey(3))

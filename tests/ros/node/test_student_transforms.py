"""The transform buffer and the placing of sweeps: known motions, and no answer where there is none."""

import threading
import time

import numpy as np
import pytest

from vexkd_model.data.sweeps import Sweep, accumulate_sweeps
from vexkd_model.geometry.transforms import matrix_from_pose, yaw_of
from vexkd_ros.inputs.sweeps import RawSweep, SweepBuffer, place_sweeps
from vexkd_ros.inputs.transforms import TransformBuffer, TransformUnavailable

SECOND = 10**9
REST = (1.0, 0.0, 0.0, 0.0)


def turn(yaw: float) -> tuple[float, float, float, float]:
    return float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))


def driving() -> TransformBuffer:
    """odom → base_link at 0 s and 1 s: 10 m forward and a turn from 170° to −170°; the LiDAR 2 m above base_link."""
    buffer = TransformBuffer()
    buffer.insert("odom", "base_link", 0, (0, 0, 0), turn(np.radians(170)))
    buffer.insert("odom", "base_link", SECOND, (10, 0, 0), turn(np.radians(-170)))
    buffer.insert("base_link", "lidar", 0, (0, 0, 2), REST, static=True)
    return buffer


def test_between_two_poses_position_is_linear_and_the_turn_takes_the_short_way():
    odom_from_base = driving().lookup("odom", "base_link", SECOND // 4)
    np.testing.assert_allclose(odom_from_base[:3, 3], [2.5, 0, 0])
    assert yaw_of(odom_from_base) == pytest.approx(np.radians(175))


def test_a_chain_and_its_reverse_cancel():
    buffer = driving()
    there, back = buffer.lookup("odom", "lidar", SECOND // 2), buffer.lookup("lidar", "odom", SECOND // 2)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(there[:3, 3], [5, 0, 2])


def test_a_pose_is_given_back_to_the_last_bit():
    translation, quaternion = (601.1185302734375, 1646.9981689453125, 0.3), (0.571, 0.0012, -0.0117, 0.8206)
    buffer = TransformBuffer()
    buffer.insert("odom", "base_link", 7, translation, quaternion)
    np.testing.assert_array_equal(buffer.lookup("odom", "base_link", 7), matrix_from_pose(translation, quaternion))


@pytest.mark.parametrize(("target", "source", "stamp", "reason"), [
    ("base_link", "radar", 0, "names radar"),
    ("odom", "base_link", 3 * SECOND, "beyond the newest"),
    ("odom", "base_link", -3 * SECOND, "beyond the oldest"),
    ("odom", "island", 0, "not connected"),
])  # fmt: skip
def test_where_there_is_no_transform_there_is_a_reason_and_no_guess(target, source, stamp, reason):
    buffer = driving()
    buffer.insert("sea", "island", 0, (0, 0, 0), REST, static=True)
    with pytest.raises(TransformUnavailable, match=reason):
        buffer.lookup(target, source, stamp)


def test_frames_in_a_circle_are_an_error_and_not_an_endless_loop():
    buffer = TransformBuffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        buffer.insert(parent, child, 0, (1, 0, 0), REST, static=True)
    with pytest.raises(TransformUnavailable, match="circle"):
        buffer.lookup("elsewhere", "a", 0)


@pytest.mark.parametrize("pose", [((np.nan, 0, 0), REST), ((0, 0, 0), (0, 0, 0, 0))], ids=["nan", "no rotation"])
def test_numbers_that_are_no_pose_are_refused(pose):
    with pytest.raises(ValueError, match="not a pose"):
        TransformBuffer().insert("odom", "base_link", 0, *pose)


def test_time_that_jumps_back_forgets_the_future_and_keeps_what_is_static():
    buffer = driving()
    buffer.insert("odom", "base_link", -100 * SECOND, (1, 0, 0), REST)
    with pytest.raises(TransformUnavailable):
        buffer.lookup("odom", "base_link", SECOND)
    np.testing.assert_array_equal(buffer.lookup("odom", "lidar", -100 * SECOND)[:3, 3], [1, 0, 2])


def test_a_transform_that_is_late_is_waited_for_and_one_that_never_comes_is_not_waited_for_long():
    buffer = driving()
    late = threading.Timer(0.05, buffer.insert, ("odom", "base_link", SECOND * 3 // 2, (20, 0, 0), REST))
    late.start()
    found = buffer.wait("odom", "base_link", SECOND * 3 // 2, time.monotonic() + 5)
    np.testing.assert_array_equal(found[:3, 3], [20, 0, 0])
    begun = time.monotonic()
    with pytest.raises(TransformUnavailable):
        buffer.wait("odom", "base_link", 2 * SECOND, begun + 0.05)
    assert 0.05 <= time.monotonic() - begun < 1


def test_a_wall_stays_where_it_is_while_the_vehicle_drives_towards_it():
    buffer = TransformBuffer()
    buffer.insert("base_link", "lidar", 0, (0, 0, 2), REST, static=True)
    sweeps = SweepBuffer(sweeps=3, max_gap_ns=SECOND)
    for i in range(4):  # 1 m forward a sweep; the wall stands 20 m ahead of where it started
        buffer.insert("odom", "base_link", i * SECOND // 10, (i, 0, 0), REST)
        wall = np.array([[20 - i, y, -1, 30] for y in (-2, 0, 2)], np.float32)
        history, reason = sweeps.add(RawSweep(wall, i * SECOND // 10, "lidar"))
        assert not reason
    placed = place_sweeps(history, buffer, "base_link", "odom", deadline=0)
    points = accumulate_sweeps(placed.sweeps)
    np.testing.assert_allclose(points[:, 0], 17, atol=1e-5)
    np.testing.assert_allclose(points[:, 2], 1, atol=1e-6)
    np.testing.assert_allclose(points[:, 4], np.repeat([0, 0.1, 0.2], 3), atol=1e-6)


def test_placed_sweeps_are_to_the_last_bit_what_offline_evaluation_accumulates():
    random = np.random.default_rng(4)
    mount = ((0.943713, 0.0, 1.84023), (0.7077955119163518, -0.006492242056004365, 0.010646214713995808,
                                        -0.7063073142877817))  # a real calibration: not quite of length one
    buffer, sweeps = TransformBuffer(), SweepBuffer(5, SECOND)
    buffer.insert("base_link", "lidar_top", 0, *mount, static=True)
    expected = []
    for i in range(5):
        stamp = 1_533_000_000 * SECOND + i * 50_000_000
        pose = (1010.1328353 + 0.4 * i, 610.81117 - 0.2 * i, 0.0), tuple(random.normal(size=4))
        buffer.insert("odom", "base_link", stamp, *pose)
        points = random.uniform(-50, 50, (2000, 4)).astype(np.float32)
        history, _ = sweeps.add(RawSweep(points, stamp, "lidar_top"))
        expected.insert(0, Sweep(points, stamp, matrix_from_pose(*mount), matrix_from_pose(*pose)))
    placed = place_sweeps(history, buffer, "base_link", "odom", deadline=0)
    np.testing.assert_array_equal(accumulate_sweeps(placed.sweeps), accumulate_sweeps(expected))


@pytest.mark.parametrize("stamp", [0, -SECOND, 5 * SECOND], ids=["the same", "earlier", "much later"])
def test_sweeps_that_do_not_follow_one_another_are_not_mixed(stamp):
    sweeps = SweepBuffer(5, SECOND)
    sweeps.add(RawSweep(np.empty((0, 4), np.float32), 0, "lidar"))
    history, reason = sweeps.add(RawSweep(np.empty((0, 4), np.float32), stamp, "lidar"))
    assert len(history) == 1
    assert "older sweeps dropped" in reason

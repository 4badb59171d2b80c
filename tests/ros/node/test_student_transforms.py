"""The transform buffer and the placing of sweeps: known motions, and no answer where there is none."""

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from vexkd_model.data.sweeps import Sweep, accumulate_sweeps, spaced
from vexkd_model.geometry.transforms import matrix_from_pose, yaw_of
from vexkd_ros.inputs.errors import TransformUnavailable
from vexkd_ros.inputs.lidar_assembler import RawSweep, SweepBuffer, place_sweeps
from vexkd_ros.inputs.poses import Poses
from vexkd_ros.inputs.transforms import STRAYS, TransformBuffer

SECOND = 10**9
NOON = 1_533_000_000 * SECOND  # to tf2, zero is no time
REST = (1.0, 0.0, 0.0, 0.0)


def turn(yaw: float) -> tuple[float, float, float, float]:
    return float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))


@pytest.fixture(params=["our own", "tf2"])
def buffer(request: pytest.FixtureRequest) -> TransformBuffer:
    """An empty one: what it interpolates with is ours, or tf2 where there is one."""
    if request.param == "our own":
        return TransformBuffer(Poses)
    pytest.importorskip("tf2_py", reason="tf2_py is not installed here")
    from vexkd_ros.inputs.tf2_poses import Tf2Poses

    return TransformBuffer(Tf2Poses)


@pytest.fixture
def driving(buffer: TransformBuffer) -> TransformBuffer:
    """odom → base_link at 0 s and 1 s: 10 m forward and a turn from 170° to −170°; the LiDAR 2 m above base_link."""
    buffer.insert("odom", "base_link", NOON, (0, 0, 0), turn(np.radians(170)))
    buffer.insert("odom", "base_link", NOON + SECOND, (10, 0, 0), turn(np.radians(-170)))
    buffer.insert("base_link", "lidar", NOON, (0, 0, 2), REST, static=True)
    return buffer


def test_between_two_poses_position_is_linear_and_the_turn_takes_the_short_way(driving):
    odom_from_base = driving.lookup("odom", "base_link", NOON + SECOND // 4)
    np.testing.assert_allclose(odom_from_base[:3, 3], [2.5, 0, 0], atol=1e-12)
    assert yaw_of(odom_from_base) == pytest.approx(np.radians(175))


def test_a_chain_and_its_reverse_cancel(driving):
    half = NOON + SECOND // 2
    there, back = driving.lookup("odom", "lidar", half), driving.lookup("lidar", "odom", half)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(there[:3, 3], [5, 0, 2], atol=1e-12)


def test_siblings_are_joined_through_their_parent(driving):
    driving.insert("base_link", "radar", NOON, (3, 0, 0), turn(np.pi / 2), static=True)
    np.testing.assert_allclose(driving.lookup("radar", "lidar", NOON)[:3, 3], [0, 3, 2], atol=1e-12)


def test_a_pose_is_given_back_to_the_last_bit():
    """By our own poses; tf2 makes its quaternion one of length one first."""
    translation, quaternion = (601.1185302734375, 1646.9981689453125, 0.3), (0.571, 0.0012, -0.0117, 0.8206)
    buffer = TransformBuffer(Poses)
    buffer.insert("odom", "base_link", 7, translation, quaternion)
    np.testing.assert_array_equal(buffer.lookup("odom", "base_link", 7), matrix_from_pose(translation, quaternion))


def test_random_poses_at_random_times_are_those_of_scipy(buffer):
    """Two moving frames and a fixed one in a chain; quaternions of any length."""
    random = np.random.default_rng(5)
    stamps = NOON + np.cumsum(random.integers(10_000_000, 100_000_000, 20))
    poses = {child: (random.uniform(-2000, 2000, (20, 3)), random.normal(size=(20, 4))) for child in ("b", "c")}
    mount = random.normal(size=3), random.normal(size=4)
    buffer.insert("c", "d", NOON, *mount, static=True)
    for i in random.permutation(20):  # within a second of the newest, or time had jumped
        for parent, child in (("a", "b"), ("b", "c")):
            buffer.insert(parent, child, int(stamps[i]), poses[child][0][i], poses[child][1][i])
    for stamp in map(int, random.integers(stamps[0], stamps[-1], 50)):
        expected = np.eye(4)
        for positions, quaternions in poses.values():
            expected = expected @ interpolated(stamps, positions, quaternions, stamp)
        expected = expected @ rigid(mount[0], Rotation.from_quat(np.roll(mount[1], -1)))
        np.testing.assert_allclose(buffer.lookup("a", "d", stamp), expected, atol=1e-8)


def interpolated(stamps: np.ndarray, positions: np.ndarray, quaternions: np.ndarray, stamp: int) -> np.ndarray:
    """(4, 4), by scipy; quaternions w, x, y, z."""
    seconds, now = (stamps - stamps[0]) * 1e-9, (stamp - stamps[0]) * 1e-9
    position = [np.interp(now, seconds, positions[:, axis]) for axis in range(3)]
    return rigid(position, Slerp(seconds, Rotation.from_quat(np.roll(quaternions, -1, axis=1)))(now))


def rigid(position: Sequence[float], rotation: Rotation) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.as_matrix(), position
    return matrix


@pytest.mark.parametrize(
    ("target", "source", "stamp", "reason"),
    [
        ("base_link", "radar", 0, "names radar"),
        ("odom", "base_link", 3 * SECOND, "beyond the newest"),
        ("odom", "base_link", -3 * SECOND, "beyond the oldest"),
        ("odom", "island", 0, "not connected"),
    ],
)
def test_where_there_is_no_transform_there_is_a_reason_and_no_guess(driving, target, source, stamp, reason):
    driving.insert("sea", "island", NOON, (0, 0, 0), REST, static=True)
    with pytest.raises(TransformUnavailable, match=reason):
        driving.lookup(target, source, NOON + stamp)


@pytest.mark.parametrize(("stamp", "forward"), [(-4_000_000, 0), (SECOND + 4_000_000, 10)])
def test_a_few_milliseconds_outside_the_history_its_end_will_do(driving, stamp, forward):
    assert driving.lookup("odom", "base_link", NOON + stamp)[0, 3] == pytest.approx(forward, abs=0.06)


def test_only_ten_seconds_are_kept(buffer):
    for i in range(150):
        buffer.insert("odom", "base_link", NOON + i * SECOND // 10, (i, 0, 0), REST)
    np.testing.assert_allclose(buffer.lookup("odom", "base_link", NOON + 5 * SECOND)[0, 3], 50)
    with pytest.raises(TransformUnavailable, match="beyond the oldest"):
        buffer.lookup("odom", "base_link", NOON + 4 * SECOND)


def test_frames_in_a_circle_are_an_error_and_not_an_endless_loop(buffer):
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        buffer.insert(parent, child, NOON, (1, 0, 0), REST, static=True)
    with pytest.raises(TransformUnavailable, match="circle"):
        buffer.lookup("elsewhere", "a", NOON)


@pytest.mark.parametrize("pose", [((np.nan, 0, 0), REST), ((0, 0, 0), (0, 0, 0, 0))], ids=["nan", "no rotation"])
def test_numbers_that_are_no_pose_are_refused(buffer, pose):
    with pytest.raises(ValueError, match="not a pose"):
        buffer.insert("odom", "base_link", NOON, *pose)


def test_a_frame_that_gets_another_parent_leaves_the_old_one(driving):
    driving.insert("map", "base_link", NOON + 3 * SECOND, (7, 0, 0), REST)
    np.testing.assert_allclose(driving.lookup("map", "lidar", NOON + 3 * SECOND)[:3, 3], [7, 0, 2], atol=1e-12)
    with pytest.raises(TransformUnavailable, match="names odom"):
        driving.lookup("odom", "lidar", NOON + 3 * SECOND)
    assert not driving.conflicts()


def test_two_parents_at_one_time_are_named_and_the_first_one_stays(driving):
    """AMCL that is set to publish map → base_link beside odometry's odom → base_link."""
    for i in range(20):
        stamp = NOON + SECOND + i * SECOND // 50
        driving.insert("odom", "base_link", stamp, (10 + i, 0, 0), REST)
        driving.insert("map", "base_link", stamp + SECOND // 100, (500, 0, 0), REST)
        assert driving.lookup("odom", "base_link", stamp)[0, 3] == pytest.approx(10 + i)
    (conflict,) = driving.conflicts()
    assert conflict.text == (
        "base_link has two parents on /tf, odom and map; odom is used: let only one node publish "
        "base_link (0.010 s between their stamps)"
    )


def test_time_that_jumps_back_forgets_the_future_and_keeps_what_is_static(driving):
    driving.insert("odom", "base_link", NOON - 100 * SECOND, (1, 0, 0), REST)
    # A cloud of that time says that it is no stray message.
    np.testing.assert_allclose(driving.lookup("odom", "lidar", NOON - 100 * SECOND)[:3, 3], [1, 0, 2], atol=1e-12)
    with pytest.raises(TransformUnavailable):
        driving.lookup("odom", "base_link", NOON + SECOND)


def test_time_that_stays_back_has_jumped_though_nobody_asks(driving):
    for i in range(STRAYS):
        driving.insert("odom", "base_link", NOON - 5 * SECOND + i * SECOND // 50, (i, 0, 0), REST)
    with pytest.raises(TransformUnavailable, match="beyond the newest"):
        driving.lookup("odom", "base_link", NOON)
    assert driving.lookup("odom", "base_link", NOON - 5 * SECOND + SECOND // 50)[0, 3] == pytest.approx(1)


@pytest.mark.parametrize("stray", [0, NOON - 2 * SECOND], ids=["stamp 0, as a filter that starts", "two seconds late"])
def test_one_old_message_is_dropped_and_not_the_history(driving, stray):
    driving.insert("odom", "base_link", stray, (77, 0, 0), REST)
    assert driving.lookup("odom", "base_link", NOON + SECOND // 2)[0, 3] == pytest.approx(5)


def test_the_clocks_of_frames_that_nobody_asks_for_do_not_matter(driving):
    """Two publishers of one wheel, one with a clock that is two seconds late."""
    for i in range(40):
        driving.insert("base_link", "wheel", NOON + SECOND + i - 2 * SECOND * (i % 2), (0, 1, 0), REST)
    assert driving.lookup("odom", "lidar", NOON + SECOND // 2)[0, 3] == pytest.approx(5)
    for _ in range(2 * STRAYS):
        driving.insert("base_link", "wheel", NOON - 50 * SECOND, (0, 1, 0), REST)
    assert driving.lookup("odom", "lidar", NOON + SECOND // 2)[0, 3] == pytest.approx(5)


def test_static_broadcasters_that_disagree_are_named_with_amounts_where_the_frame_is_used(driving):
    driving.insert("base_link", "camera", NOON, (1, 0, 0), REST, static=True)
    driving.insert("base_link", "camera", NOON, (1.3, 0, 0), turn(np.radians(2)), static=True)
    driving.insert("base_link", "lidar", NOON + SECOND, (0, 0, 2), REST, static=True)  # the same, said twice
    driving.lookup("base_link", "lidar", NOON)
    assert not driving.conflicts()
    np.testing.assert_allclose(driving.lookup("base_link", "camera", NOON)[:3, 3], [1.3, 0, 0], atol=1e-9)
    (conflict,) = driving.conflicts()
    assert conflict.text.startswith("two transforms base_link → camera on /tf_static differ by 0.300 m and 2.00°")
    driving.insert("chassis", "camera", NOON, (0, 0, 0), REST, static=True)
    assert driving.conflicts()[0].text.startswith("camera has two parents on /tf_static, base_link and chassis")


def test_a_frame_that_another_static_parent_took_away_is_said_to_have_two(driving):
    driving.insert("chassis", "lidar", NOON, (0, 0, 0), REST, static=True)
    with pytest.raises(TransformUnavailable, match="lidar has two parents on /tf_static, base_link and chassis; the"):
        driving.lookup("base_link", "lidar", NOON)
    assert len(driving.conflicts()) == 1


def test_with_a_clock_that_stands_contradictions_far_apart_are_kept():
    """Insert with a clock that stands, as the doctor reads a bag: one bag is one drive."""
    now = [0.0]
    for clock, found in ((lambda: now[0], 0), (lambda: 0.0, 2)):
        buffer = TransformBuffer(Poses, clock=clock)
        for i in range(2):
            buffer.insert("odom", "base_link", NOON, (0, 0, 0), REST)
            buffer.insert("map", "base_link", NOON + i, (0, 0, 0), REST)
            buffer.insert("base_link", "lidar", NOON, (i, 0, 0), REST, static=True)
            now[0] += 60
        buffer.lookup("odom", "lidar", NOON)
        assert len(buffer.conflicts()) == found


def test_a_stamp_that_no_clock_has_is_refused(buffer):
    with pytest.raises(ValueError, match="odom → base_link has a stamp before 1970"):
        buffer.insert("odom", "base_link", -37 * SECOND, (0, 0, 0), REST)


def test_where_tf_is_elsewhere_the_reason_says_so():
    buffer = TransformBuffer(Poses, hint=lambda: "; or listen to /robot1/tf")
    with pytest.raises(TransformUnavailable, match=r"names lidar or base_link; .*; or listen to /robot1/tf$"):
        buffer.lookup("base_link", "lidar", NOON)


def test_frames_may_be_named_as_in_ros_1(buffer):
    buffer.insert("/base_link", "/lidar", NOON, (0, 0, 2), REST, static=True)
    np.testing.assert_allclose(buffer.lookup("/base_link", "/lidar", NOON)[:3, 3], [0, 0, 2])


def test_what_is_cleared_is_gone_even_if_static(driving):
    driving.clear()
    with pytest.raises(TransformUnavailable, match="names lidar or base_link"):
        driving.lookup("base_link", "lidar", NOON)


def test_a_transform_that_is_late_is_waited_for_and_one_that_never_comes_is_not_waited_for_long(driving):
    soon = NOON + SECOND * 3 // 2
    late = threading.Timer(0.05, driving.insert, ("odom", "base_link", soon, (20, 0, 0), REST))
    late.start()
    found = driving.wait("odom", "base_link", soon, time.monotonic() + 5)
    np.testing.assert_allclose(found[:3, 3], [20, 0, 0])
    begun = time.monotonic()
    with pytest.raises(TransformUnavailable):
        driving.wait("odom", "base_link", NOON + 2 * SECOND, begun + 0.05)
    assert 0.05 <= time.monotonic() - begun < 1


def test_a_wall_stays_where_it_is_while_the_vehicle_drives_towards_it(buffer):
    buffer.insert("base_link", "lidar", NOON, (0, 0, 2), REST, static=True)
    sweeps = SweepBuffer(sweeps=3, max_gap_ns=SECOND)
    for i in range(4):  # 1 m forward a sweep; the wall stands 20 m ahead of where it started
        stamp = NOON + i * SECOND // 10
        buffer.insert("odom", "base_link", stamp, (i, 0, 0), REST)
        wall = np.array([[20 - i, y, -1, 30] for y in (-2, 0, 2)], np.float32)
        history, reason = sweeps.add(RawSweep(wall, stamp, "lidar"))
        assert not reason
    placed = place_sweeps(history, buffer, "base_link", "odom", deadline=0)
    points = accumulate_sweeps(placed.sweeps)
    np.testing.assert_allclose(points[:, 0], 17, atol=1e-5)
    np.testing.assert_allclose(points[:, 2], 1, atol=1e-6)
    np.testing.assert_allclose(points[:, 4], np.repeat([0, 0.1, 0.2], 3), atol=1e-6)


def test_placed_sweeps_are_what_offline_evaluation_accumulates(buffer, request):
    """To the last bit by our own poses; tf2 rounds otherwise."""
    within = 0.0 if request.node.callspec.params["buffer"] == "our own" else 1e-5
    random = np.random.default_rng(4)
    mount = (
        (0.943713, 0.0, 1.84023),
        (0.7077955119163518, -0.006492242056004365, 0.010646214713995808, -0.7063073142877817),
    )  # a real calibration: not quite of length one
    sweeps, expected = SweepBuffer(5, SECOND), []
    buffer.insert("base_link", "lidar_top", NOON, *mount, static=True)
    for i in range(5):
        stamp = NOON + i * 50_000_000
        pose = (1010.1328353 + 0.4 * i, 610.81117 - 0.2 * i, 0.0), tuple(random.normal(size=4))
        buffer.insert("odom", "base_link", stamp, *pose)
        points = random.uniform(-50, 50, (2000, 4)).astype(np.float32)
        history, _ = sweeps.add(RawSweep(points, stamp, "lidar_top"))
        expected.insert(0, Sweep(points, stamp, matrix_from_pose(*mount), matrix_from_pose(*pose)))
    placed = place_sweeps(history, buffer, "base_link", "odom", deadline=0)
    np.testing.assert_allclose(accumulate_sweeps(placed.sweeps), accumulate_sweeps(expected), rtol=0, atol=within)


@pytest.mark.parametrize("period_ms", [50, 67, 100, 170])
def test_sweeps_of_a_live_frame_are_those_that_offline_evaluation_reads(period_ms):
    late = np.random.default_rng(period_ms).integers(0, 30_000_000, 40)  # now and then a sweep comes late or is lost
    stamps = [i * period_ms * 10**6 + int(late[i]) for i in range(40) if i % 7 != 3]
    buffer_of_frame = SweepBuffer(5, SECOND, interval=0.1)
    for i, stamp in enumerate(stamps):
        history, _ = buffer_of_frame.add(RawSweep(np.empty((0, 4), np.float32), stamp, "lidar"))
        before = stamps[i::-1]
        assert [sweep.stamp_ns for sweep in history] == [before[k] for k in spaced(before, 5, 0.1)]


@pytest.mark.parametrize("stamp", [0, -SECOND, 5 * SECOND], ids=["the same", "earlier", "much later"])
def test_sweeps_that_do_not_follow_one_another_are_not_mixed(stamp):
    sweeps = SweepBuffer(5, SECOND)
    sweeps.add(RawSweep(np.empty((0, 4), np.float32), 0, "lidar"))
    history, reason = sweeps.add(RawSweep(np.empty((0, 4), np.float32), stamp, "lidar"))
    assert len(history) == 1
    assert "older sweeps dropped" in reason

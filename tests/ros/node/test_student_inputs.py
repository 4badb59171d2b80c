"""A real student_node process over real DDS: what it makes of every kind of cloud, and what it says when it cannot."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from support.messages import values
from support.rig import street_points

from vexkd_model.data.sweeps import Sweep, accumulate_sweeps
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.geometry.transforms import matrix_from_pose
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, Frame

pytestmark = pytest.mark.usefixtures("lidar_node")
LIDAR_MOUNT = ((0.94, 0.0, 1.84), (0.7, 0.0, 0.0, -0.7))
SWEEP_NS = 100_000_000


def table(detections) -> np.ndarray:
    """(M, 10) x, y, z, length, width, height, sin and cos of yaw / 2, class, score."""
    return np.array(
        [
            [
                d.bbox.center.position.x,
                d.bbox.center.position.y,
                d.bbox.center.position.z,
                d.bbox.size.x,
                d.bbox.size.y,
                d.bbox.size.z,
                d.bbox.center.orientation.z,
                d.bbox.center.orientation.w,
                DETECTION_CLASSES.index(d.results[0].hypothesis.class_id),
                d.results[0].hypothesis.score,
            ]
            for d in detections.detections
        ]
    )


def expected_table(prediction) -> np.ndarray:
    boxes = prediction.boxes.values.astype(np.float64)
    return np.column_stack(
        [boxes[:, :6], np.sin(boxes[:, 6] / 2), np.cos(boxes[:, 6] / 2), prediction.boxes.labels, prediction.scores]
    )


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return street_points(4000)


@pytest.fixture(scope="module")
def predictor(package) -> Iterator[Predictor]:
    """The student here, on one thread as in the node: the same numbers then come out to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Predictor.load(package)
    torch.set_num_threads(threads)


def offline(predictor, *sweeps: tuple[np.ndarray, int, tuple]):
    """What offline evaluation predicts from (points, stamp, odometry), newest first."""
    mount = matrix_from_pose(*LIDAR_MOUNT)
    accumulated = accumulate_sweeps(
        [Sweep(points, stamp, mount, matrix_from_pose(*pose)) for points, stamp, pose in sweeps]
    )
    return predictor.predict(Frame(accumulated, sweeps[0][1]))


def test_every_output_of_a_frame_carries_its_stamp_and_the_latency_comes_last(vehicle, make_cloud, points):
    stamp = vehicle.send(make_cloud(points))
    outputs = {
        topic: vehicle.result(stamp, topic)
        for topic in ("detections", "markers", "map_image", "debug/latency", *(f"map/{name}" for name in MAP_CLASSES))
    }
    assert outputs["detections"].header.frame_id == outputs["map/divider"].header.frame_id == "base_link"
    last = vehicle.published_at["debug/latency"][stamp]
    assert all(vehicle.published_at[topic][stamp] < last for topic in outputs if topic != "debug/latency")
    stages = {key: float(value) for key, value in values(outputs["debug/latency"].status[0]).items()}
    assert stages["total_ms"] == pytest.approx(
        sum(stages[f"{name}_ms"] for name in ("wait", "convert", "infer", "publish")), abs=0.01
    )


def test_five_sweeps_are_accumulated_and_give_what_offline_evaluation_gives(vehicle, make_cloud, points, predictor):
    start = vehicle.send(make_cloud(points))
    vehicle.result(start)
    sweeps = []
    for i in range(1, 6):
        # Somewhere in a city, driving and turning: ego motion must be undone, numbers are as large as nuScenes'.
        turn = 0.01 * i
        pose = ((600.0 + 0.4 * i, 1600.0 - 0.1 * i, 0.02 * i), (np.cos(turn), 0.0, 0.0, np.sin(turn)))
        swept = points[i * 500 :] + np.float32(0.01 * i)
        stamp = start + 90 * 10**9 + i * SWEEP_NS
        vehicle.send(make_cloud(swept), stamp, pose)
        vehicle.result(stamp)
        sweeps.insert(0, (swept, stamp, pose))
    vehicle.stamp_ns = stamp
    assert vehicle.sweeps_used(stamp) == 5
    expected = offline(predictor, *sweeps)
    np.testing.assert_array_equal(table(vehicle.result(stamp)), expected_table(expected))
    for name, probability in zip(MAP_CLASSES, expected.map_probabilities, strict=True):
        grid = vehicle.result(stamp, f"map/{name}")
        assert (grid.info.height, grid.info.width) == probability.shape
        np.testing.assert_array_equal(np.reshape(grid.data, probability.shape), np.rint(probability * 100))


def test_detections_are_numbered_and_markers_show_the_same_boxes(vehicle, make_cloud, points):
    stamp = vehicle.send(make_cloud(points))
    detections, markers = vehicle.result(stamp).detections, vehicle.result(stamp, "markers").markers
    assert detections
    assert [d.id for d in detections] == [str(i) for i in range(len(detections))]
    assert markers[0].action == markers[0].DELETEALL
    boxes = [m for m in markers if m.ns == "boxes"]
    assert [(m.id, m.pose, m.scale) for m in boxes] == [
        (i, d.bbox.center, d.bbox.size) for i, d in enumerate(detections)
    ]
    assert sorted(m.id for m in markers if m.ns == "velocity") == list(range(len(detections)))


@pytest.mark.parametrize(
    "form",
    [{"kind": ">f4"}, {"kind": "<f8"}, {"kind": ">f8", "offset": 3}, {"rows": 40}, {"rows": 8, "row_padding": 13}],
    ids=["big-endian", "float64", "big-endian float64 at odd offsets", "organised", "padded rows"],
)
def test_a_cloud_of_any_layout_gives_the_same_detections(vehicle, make_cloud, points, predictor, form):
    stamp = vehicle.send(make_cloud(points, **form))
    np.testing.assert_array_equal(
        table(vehicle.result(stamp)), expected_table(offline(predictor, (points, stamp, vehicle_at_rest())))
    )


def vehicle_at_rest() -> tuple:
    return (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)


def test_a_cloud_without_points_is_answered_and_said_to_be_empty(vehicle, make_cloud, points):
    stamp = vehicle.send(make_cloud(points[:0]))
    assert vehicle.result(stamp, "map/drivable_area").data
    assert vehicle.status_that_says("the cloud has no points", DiagnosticStatus.WARN)


def test_points_that_are_not_finite_are_left_out_and_counted(vehicle, make_cloud, points, predictor):
    spoilt = points.copy()
    spoilt[::4, 0], spoilt[1::4, 2] = np.nan, np.inf
    stamp = vehicle.send(make_cloud(spoilt))
    kept = np.ascontiguousarray(points.reshape(-1, 4, 4)[:, 2:].reshape(-1, 4))
    np.testing.assert_array_equal(
        table(vehicle.result(stamp)), expected_table(offline(predictor, (kept, stamp, vehicle_at_rest())))
    )
    seen = len(vehicle.statuses)
    status = vehicle.wait_for(lambda: vehicle.statuses[seen:], "/diagnostics")[0]
    assert values(status)["points removed, last cloud"] == "2000"


def test_a_cloud_of_nothing_but_nan_is_answered_and_said_to_be_so(vehicle, make_cloud, points):
    stamp = vehicle.send(make_cloud(np.full_like(points, np.nan)))
    vehicle.result(stamp)
    vehicle.status_that_says("no point with finite numbers")


def test_a_cloud_without_intensity_is_answered_with_zero_in_its_place(vehicle, make_cloud, points, predictor):
    stamp = vehicle.send(make_cloud(points[:, :3], names=("x", "y", "z")))
    dark = points * np.array([1, 1, 1, 0], np.float32)
    np.testing.assert_array_equal(
        table(vehicle.result(stamp)), expected_table(offline(predictor, (dark, stamp, vehicle_at_rest())))
    )
    vehicle.status_that_says("no field intensity")


def test_clouds_that_cannot_be_read_are_dropped_with_the_reason_and_the_next_one_is_answered(
    vehicle, make_cloud, points
):
    truncated = make_cloud(points)
    truncated.data = truncated.data[:1000]
    vehicle.send(make_cloud(points[:, :2], names=("x", "y")))
    vehicle.status_that_says("the cloud has no field z; configure the driver")
    vehicle.send(truncated)
    vehicle.status_that_says("the cloud has less data than it declares; mend the driver")
    vehicle.result(vehicle.send(make_cloud(points)))


def test_a_frame_that_tf_does_not_know_is_named_and_the_next_cloud_is_answered(vehicle, make_cloud, points):
    lost = make_cloud(points)
    lost.header.frame_id = "somewhere"
    stamp = vehicle.send(lost)
    status = vehicle.status_that_says("nothing on /tf or /tf_static names somewhere")
    assert values(status)["last problem"].startswith("no transform base_link → somewhere")
    assert stamp not in vehicle.outputs["detections"]
    vehicle.result(vehicle.send(make_cloud(points)))


def test_without_odometry_the_newest_sweep_alone_is_used(vehicle, make_cloud, points, predictor):
    first = vehicle.send(make_cloud(points))
    vehicle.result(first)
    vehicle.stamp_ns = second = first + 2 * SWEEP_NS
    vehicle.send(make_cloud(points), second, pose=None)
    assert vehicle.sweeps_used(second) == 1
    np.testing.assert_array_equal(
        table(vehicle.result(second)), expected_table(offline(predictor, (points, second, vehicle_at_rest())))
    )
    vehicle.status_that_says("only the newest sweep used: no transform odom → base_link")


def test_odometry_that_comes_a_little_later_than_the_cloud_is_waited_for(vehicle, make_cloud, points):
    first = vehicle.send(make_cloud(points))
    vehicle.result(first)
    vehicle.stamp_ns = second = first + SWEEP_NS
    vehicle.send(make_cloud(points), second, pose=None)
    vehicle.send_odometry(second)
    assert vehicle.sweeps_used(second) == 2


def test_time_that_jumps_back_starts_anew(vehicle, make_cloud, points):
    start = vehicle.send(make_cloud(points))
    vehicle.result(start)
    earlier = vehicle.send(make_cloud(points), start - 20 * 10**9)
    assert vehicle.sweeps_used(earlier) == 1
    vehicle.status_that_says("time did not advance between clouds")
    next_one = vehicle.send(make_cloud(points), earlier + SWEEP_NS)
    assert vehicle.sweeps_used(next_one) == 2


def test_of_a_burst_the_newest_is_answered_and_the_overtaken_are_counted(vehicle, make_cloud, points):
    vehicle.result(vehicle.send(make_cloud(points)))
    stamps = [vehicle.send(make_cloud(points), vehicle.stamp_ns + (i + 1) * SWEEP_NS) for i in range(8)]
    vehicle.stamp_ns = stamps[-1]
    assert vehicle.sweeps_used(stamps[-1]) == 5  # overtaken ones still count as sweeps
    answered = sum(stamp in vehicle.outputs["debug/latency"] for stamp in stamps)
    assert answered < len(stamps)
    seen = len(vehicle.statuses)
    status = vehicle.wait_for(lambda: vehicle.statuses[seen:], "/diagnostics")[0]
    assert int(values(status)["drops: replaced by newer input"]) >= len(stamps) - answered


def test_diagnostics_tell_rate_latency_age_model_and_device(vehicle, make_cloud, points, package):
    vehicle.result(vehicle.send(make_cloud(points)))
    seen = len(vehicle.statuses)
    told = values(vehicle.wait_for(lambda: vehicle.statuses[seen:], "/diagnostics")[0])
    assert told["model"] == str(package)
    assert told["device"] == "cpu"
    assert told["state"] == "active"
    assert float(told["rate [Hz]"]) > 0
    assert float(told["total p99 [ms]"]) >= float(told["total p50 [ms]"]) > float(told["infer p50 [ms]"]) > 0
    assert float(told["since last input [s]"]) < 5
    assert float(told["input age [s]"]) > 86400  # replayed from 2018: said, not acted upon

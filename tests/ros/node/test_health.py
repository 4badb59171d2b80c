"""Tests of the node's health: its /diagnostics after each kind of event."""

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from support.clock import ManualClock
from support.messages import values

from vexkd_model.sensor_check.rules import Mismatch
from vexkd_ros.health.latency import Latency
from vexkd_ros.health.node_health import Limits, NodeHealth

OK, WARN, ERROR, STALE = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE)
FAST = Latency(1.0, 2.0, 30.0, 4.0)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def health_of(clock):
    """Function of the names of inputs and of limits: the health of a node that was just activated with them."""

    def make(*inputs, **limits):
        health = NodeHealth(clock)
        health.activated(inputs, Limits(**limits))
        return health

    return make


def said(health, why_silent=lambda name: "", state="active", device="cpu"):
    return {status.name: status for status in health.statuses("node", state, "student", device, why_silent)}


def test_before_the_first_input_it_waits_for_it_by_name(health_of):
    status = said(health_of("points"))["node: student"]
    assert (status.level, status.message) == (STALE, "waiting for input on points")


def test_an_input_that_stops_is_stale_with_the_reason_and_recovers_by_itself(health_of, clock):
    health = health_of("points", stale_s=2.0)
    health.input_received(0.0)
    health.frame_published(FAST)
    assert said(health)["node: student"].level == said(health)["node: input points"].level == OK
    clock.advance(2.1)
    statuses = said(health, why_silent=lambda name: f"nobody publishes /{name}")
    assert statuses["node: input points"].level == statuses["node: student"].level == STALE
    assert "nobody publishes /points" in statuses["node: student"].message
    health.input_received(0.0)
    health.frame_published(FAST)
    assert said(health)["node: student"].level == said(health)["node: input points"].level == OK


def test_one_camera_of_two_that_stops_is_stale_and_the_node_goes_on_with_a_warning(health_of, clock):
    health = health_of("cam_front", "cam_back", stale_s=2.0)
    health.input_received(0.0, "cam_front")
    health.input_received(0.0, "cam_back")
    clock.advance(2.1)
    health.input_received(0.0, "cam_front")
    health.frame_published(FAST)
    statuses = said(health)
    assert [statuses[f"node: input {name}"].level for name in ("cam_front", "cam_back")] == [OK, STALE]
    assert statuses["node: student"].level == WARN
    assert statuses["node: student"].message.startswith("no input on cam_back for 2.1 s")


def test_why_an_input_is_silent_is_asked_only_where_it_is(health_of):
    health = health_of("points", stale_s=60)
    health.input_received(0.0)
    said(health, why_silent=lambda name: pytest.fail("asked"))


def test_input_without_output_is_an_error_once_it_is_not_the_first(health_of, clock):
    health = health_of("points", stale_s=60)
    health.input_received(0.0)
    assert said(health)["node: student"].level == WARN
    clock.advance(2.1)
    health.input_received(0.0)
    assert said(health)["node: student"].level == ERROR


@pytest.mark.parametrize("start", [1000.0, 0.0, -50.0], ids=["now", "a clock at zero", "a clock before zero"])
def test_a_slow_node_is_warned_of_and_one_that_stays_slow_is_an_error(health_of, clock, start):
    clock.advance(start - clock())
    health = health_of("points", latency_s=0.03)
    health.input_received(0.0)
    health.frame_published(FAST)
    status = said(health)["node: student"]
    assert status.level == WARN
    assert status.message == "median latency 37 ms is above permitted_latency, 30 ms"
    for _ in range(31):
        clock.advance(1.0)
        health.input_received(0.0)
        health.frame_published(FAST)
    assert said(health)["node: student"].level == ERROR


@pytest.mark.parametrize(("permitted", "level"), [(None, OK), (0.5, WARN), (2.0, OK)])
def test_old_input_is_warned_of_where_an_age_is_permitted(health_of, permitted, level):
    health = health_of("points", age_s=permitted)
    health.input_received(1.0)
    health.frame_published(FAST)
    statuses = said(health)
    assert statuses["node: student"].level == statuses["node: input points"].level == level
    assert values(statuses["node: input points"])["age [s]"] == "1.000"


def test_images_of_a_frame_that_are_far_apart_are_warned_of(health_of):
    health = health_of("cam_front", sync_s=0.02)
    health.input_received(0.0, "cam_front")
    health.frame_published(FAST)
    for error in (0.03, 0.05, 0.04):
        health.synchronised(error)
    status = said(health)["node: student"]
    assert status.level == WARN and "40 ms apart, 20 ms are permitted" in status.message
    assert values(status)["synchronisation p50 [ms]"] == "40.0"
    assert values(status)["synchronisation max [ms]"] == "50.0"


def test_what_does_not_fit_is_in_a_status_of_its_own_and_new_for_the_log_once(health_of):
    health = health_of("points")
    dark, beams = (Mismatch("lidar", kind, f"{kind}: do this") for kind in ("intensity zero", "beams"))
    assert health.sensors_compared([dark]) == [dark]
    assert health.sensors_compared([dark, beams]) == [beams] and health.sensors_compared([dark, beams]) == []
    status = said(health)["node: sensor fit"]
    assert status.level == WARN and "beams: do this" in status.message
    health.sensors_compared([])
    assert said(health)["node: sensor fit"].level == OK
    assert health.sensors_compared([dark]) == []  # it comes and goes: not told anew


def test_rates_and_counts_are_those_of_what_came(health_of, clock):
    health = health_of("points")
    for _ in range(5):
        health.input_received(0.0)
        health.frame_published(FAST)
        clock.advance(0.02)
    statuses = said(health)
    assert values(statuses["node: input points"])["received"] == values(statuses["node: student"])["inputs"] == "5"
    assert values(statuses["node: input points"])["rate [Hz]"] == "50.00"
    assert values(statuses["node: student"])["infer p50 [ms]"] == "30.0"


def test_a_node_that_is_not_active_says_so_alone(health_of):
    statuses = said(health_of("points"), state="inactive")
    assert list(statuses) == ["node: student"]
    assert (statuses["node: student"].level, statuses["node: student"].message) == (OK, "not active: inactive")


@pytest.mark.gpu
def test_on_a_gpu_its_memory_is_told(health_of):
    import torch

    held = torch.zeros(25_000_000, device="cuda")
    told = values(said(health_of("points"), device="cuda")["node: student"])
    assert float(told["GPU memory held [MB]"]) >= held.nbytes / 1e6
    assert float(told["GPU memory peak [MB]"]) >= float(told["GPU memory held [MB]"])
    assert float(told["GPU memory free [MB]"]) > 0

"""The environment of everything that is started for a demo or a test."""

import socket

import pytest

from vexkd_ros import dds


def test_a_domain_where_somebody_listens_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("", 7410 + 250 * 93))
        monkeypatch.setattr(dds.random, "sample", lambda domains, count: [93, 94])
        assert dds.free_domain() == 94


def test_a_domain_that_is_held_is_given_to_nobody_until_it_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dds.random, "sample", lambda domains, count: [93, 94])
    domain, holder = dds.held_domain()
    with holder:
        assert (domain, dds.free_domain()) == (93, 94)
    assert dds.free_domain() == 93


@pytest.mark.parametrize(
    ("distro", "more"),
    [
        (None, {"FASTDDS_DEFAULT_PROFILES_FILE"}),
        ("kilted", {"FASTDDS_DEFAULT_PROFILES_FILE"}),
        ("jazzy", {"FASTRTPS_DEFAULT_PROFILES_FILE"}),
        ("humble", {"FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_LOCALHOST_ONLY"}),
    ],
)
def test_each_distribution_is_kept_on_this_machine_in_the_words_that_it_knows(
    distro: str | None, more: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    if distro:
        monkeypatch.setenv("ROS_DISTRO", distro)
    names = dds.this_machine(7)
    assert names.keys() == {"ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_DOMAIN_ID"} | more
    assert names["ROS_DOMAIN_ID"] == "7" and names["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"

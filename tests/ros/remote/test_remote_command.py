"""The command vexkd-ros beside a real student_node and a real track_node, each a process of its own, over DDS."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import yaml

from vexkd_ros.remote.command import main
from vexkd_ros.share import REPOSITORY

WAIT = ["--timeout", "60"]


@pytest.fixture(scope="module", autouse=True)
def processes() -> Iterator[None]:
    started = [
        subprocess.Popen([sys.executable, "-m", f"vexkd_ros.{name}", *arguments], stderr=subprocess.DEVNULL)
        for name, arguments in (
            (
                "student_node",
                ["--ros-args", "-p", f"model:={REPOSITORY / 'models/lidar_plain'}", "-p", "autostart:=false"],
            ),
            ("track_node", []),
        )
    ]
    yield
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def ask(capsys):
    def run(*words: str) -> str:
        assert main([*WAIT, *words]) == 0
        return capsys.readouterr().out.strip()

    return run


def refused(*words: str, wait: list[str] = WAIT) -> str:
    with pytest.raises(SystemExit) as error:
        main([*wait, *words])
    assert "\n" not in str(error.value)
    return str(error.value)


def test_parameters_are_listed_read_described_set_and_dumped(ask):
    assert "least_sightings: 2" in ask("param", "list", "/track_node").splitlines()
    assert ask("param", "get", "track_node", "fixed_frame") == "odom"
    assert ask("param", "describe", "/track_node", "least_sightings") == (
        "least_sightings (integer, 1 … 50): A track is published once its object was detected so often. "
        "May change at any time."
    )
    assert ask("param", "set", "/track_node", "score_threshold", "1") == "score_threshold: 1.0"  # a double, as declared
    assert ask("param", "get", "/track_node", "score_threshold") == "1.0"
    dumped = yaml.safe_load(ask("param", "dump", "/track_node"))["/track_node"]["ros__parameters"]
    assert dumped["score_threshold"] == 1.0 and dumped["least_sightings"] == 2


def test_lists_are_set_as_yaml(ask):
    assert ask("param", "set", "/student_node", "outputs", "[detections, map]") == "outputs: [detections, map]"
    assert ask("param", "get", "/student_node", "outputs") == "[detections, map]"


def test_what_a_node_refuses_is_one_line_with_its_reason(ask):
    assert "has no parameter least_sighting; did you mean least_sightings?" in refused(
        "param", "get", "/track_node", "least_sighting"
    )
    assert "least_sightings takes a value of type integer, not 'many'" in refused(
        "param", "set", "/track_node", "least_sightings", "many"
    )
    assert "least_sightings stays as it was; " in refused("param", "set", "/track_node", "least_sightings", "0")
    assert ask("param", "get", "/track_node", "least_sightings") == "2"


def test_a_node_that_is_not_there_is_named_with_those_that_are(ask):
    ask("param", "get", "/track_node", "fixed_frame")
    line = refused("param", "list", "/track_nod", wait=["--timeout", "10"])
    assert "/track_nod: no such node within 10 s; there are " in line and line.endswith("; did you mean /track_node?")


def test_a_lifecycle_node_tells_its_state_and_takes_transitions(ask):
    assert ask("lifecycle", "get", "/student_node") == "unconfigured"
    assert "is unconfigured, from where activate does not lead on; it takes configure, shutdown" in refused(
        "lifecycle", "set", "/student_node", "activate"
    )
    assert ask("lifecycle", "set", "/student_node", "configure") == "inactive"
    assert ask("lifecycle", "get", "/student_node") == "inactive"
    assert ask("lifecycle", "set", "/student_node", "cleanup") == "unconfigured"
    ask("param", "set", "/student_node", "model", "/nowhere")
    assert "configure failed, it is unconfigured" in refused("lifecycle", "set", "/student_node", "configure")


def test_a_node_without_a_lifecycle_says_so():
    assert "/track_node/get_state: no such service within 10 s" in refused(
        "lifecycle", "get", "/track_node", wait=["--timeout", "10"]
    )


def test_topics_are_shown_with_their_rates(ask):
    deadline, rate = time.monotonic() + 120.0, 0.0
    while not {"/student_node", "/track_node"} <= set(ask("nodes").splitlines()):
        assert time.monotonic() < deadline  # on a busy machine they may take long to be discovered
    while not rate:
        assert time.monotonic() < deadline
        head, _, row = ask("topics", "diagnostics", "--seconds", "5").splitlines()
        rate = float(row.split()[-1])
    assert head.split() == ["topic", "type", "publishers", "subscribers", "Hz"]
    assert row.split()[:4] == ["/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "1", "0"]
    assert rate < 3.0  # it is published once a second

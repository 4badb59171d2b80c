"""Player and recorder as processes of their own, over real DDS."""

import signal
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

from vexkd_model.errors import UserError
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.scene.selection import Selection

TOPICS = ("/lidar/points", "/tf", "/tf_static", "/odom", "/keyframe", "/ground_truth")
CLOUDS, SWEEP_S = 9, 0.05
Start = Callable[..., subprocess.Popen]


@pytest.fixture(scope="module")
def bag(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(tiny_dataset, "v1.0-mini", tmp_path_factory.mktemp("bags"), selection=Selection(topics=TOPICS))[0]


def content(bag: Path) -> dict[str, list[bytes]]:
    """Serialised messages by topic, in the order of the bag; each filled up with zeros to whole words, as DDS does."""
    found: dict[str, list[bytes]] = {}
    with AnyReader([bag]) as reader:
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(bytes(data) + bytes(-len(data) % 4))
    return found


def log_times(bag: Path, topic: str) -> list[int]:
    with AnyReader([bag]) as reader:
        return [stamp for _, stamp, _ in reader.messages(c for c in reader.connections if c.topic == topic)]


def stop(process: subprocess.Popen, number: int = signal.SIGINT) -> tuple[str, str]:
    process.send_signal(number)
    return process.communicate(timeout=30)


@pytest.mark.parametrize(("end", "rate"), [("Ctrl-C", 0.5), ("--idle-timeout", 2.0)])
def test_what_is_played_is_recorded_byte_for_byte_and_at_its_rate(
    bag: Path, tmp_path: Path, start: Start, end: str, rate: float
) -> None:
    others = ["--idle-timeout", 4, "--storage", "sqlite3", "--distro", "jazzy"] if end == "--idle-timeout" else []
    recorder = start("bags.recorder", *TOPICS, "--out", tmp_path / "recorded", *others)
    player = start("bags.player", bag, "--rate", rate, "--wait-for-subscribers", *TOPICS)
    _, said = player.communicate(timeout=60)
    assert player.returncode == 0, said
    table, said = stop(recorder) if end == "Ctrl-C" else recorder.communicate(timeout=30)
    assert recorder.returncode == 0, said

    assert content(tmp_path / "recorded") == content(bag)
    assert f"{CLOUDS:7d}  /lidar/points" in table
    received = log_times(tmp_path / "recorded", "/lidar/points")
    driven = (CLOUDS - 1) * SWEEP_S / rate
    assert 0.8 * driven < (received[-1] - received[0]) * 1e-9 < driven + 3


def test_a_recorder_that_is_stopped_in_the_middle_has_all_until_then(bag: Path, tmp_path: Path, start: Start) -> None:
    recorder = start("bags.recorder", *TOPICS, "--out", tmp_path / "recorded")
    player = start("bags.player", bag, "--rate", 0.1, "--wait-for-subscribers", *TOPICS)
    for line in player.stderr:
        if line.startswith("start"):
            break
    time.sleep(2)
    _, said = stop(recorder, signal.SIGTERM)
    assert recorder.returncode == 0, said
    assert player.poll() is None, "the player should still be at work"
    source, recorded = content(bag), content(tmp_path / "recorded")
    assert 0 < len(recorded["/lidar/points"]) < CLOUDS
    for topic, messages in recorded.items():
        assert messages == source[topic][: len(messages)]


def test_a_loop_begins_again_and_the_clock_shows_every_stamp(bag: Path, tmp_path: Path, start: Start) -> None:
    recorder = start("bags.recorder", "/clock", "--namespace", "/lidar", "--out", tmp_path / "recorded")
    player = start("bags.player", bag, "--loop", "--clock", "50", "--wait-for-subscribers", "/lidar/points", "/clock")
    for line in player.stderr:
        if "messages in" in line:  # the first round is over
            break
    time.sleep(1)
    _, said = stop(player)
    assert player.returncode == 130, said
    stop(recorder)

    clouds, clock = [], []
    with AnyReader([tmp_path / "recorded"]) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            stamp = message.clock if connection.topic == "/clock" else message.header.stamp
            (clock if connection.topic == "/clock" else clouds).append(stamp.sec * 10**9 + stamp.nanosec)
    once = clouds[:CLOUDS]
    assert once == sorted(set(clouds))
    assert clouds[CLOUDS:] == once[: len(clouds) - CLOUDS]
    assert len(clouds) > CLOUDS
    assert set(clouds) <= set(clock)
    assert min(clock) >= min(clouds)
    assert len(set(clock) - set(clouds)) > CLOUDS / 2, "time also goes on between messages"
    jumps_back = sum(after < before for before, after in pairwise(clock))
    assert jumps_back == 1


def test_a_recorder_that_hears_nothing_fails(tmp_path: Path, start: Start) -> None:
    recorder = start("bags.recorder", "/nobody", "--out", tmp_path / "recorded", "--duration", "0.5")
    _, said = recorder.communicate(timeout=30)
    assert recorder.returncode == 1
    assert said.strip().endswith("recorded nothing; no message came on /nobody")
    assert not (tmp_path / "recorded").exists()  # the same command can be given again


def test_a_recorder_never_overwrites(bag: Path, start: Start) -> None:
    before = content(bag)
    recorder = start("bags.recorder", "/tf", "--out", bag)
    _, said = recorder.communicate(timeout=30)
    assert recorder.returncode == 1
    assert said == f"vexkd-bag-recorder: {bag}: exists already; remove it or choose another --out\n"
    assert content(bag) == before


def test_playing_what_is_no_bag_is_one_line(tmp_path: Path, start: Start) -> None:
    player = start("bags.player", tmp_path / "nothing")
    _, said = player.communicate(timeout=30)
    assert player.returncode == 1
    assert f"vexkd-bag-player: {tmp_path / 'nothing'}: no such bag\n" in said


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "nan"])
def test_a_rate_that_is_no_speed_is_wrong_use(bag: Path, start: Start, rate: str) -> None:
    player = start("bags.player", bag, f"--rate={rate}")
    player.communicate(timeout=30)
    assert player.returncode == 2


@pytest.mark.parametrize(
    ("file", "keep", "message"),
    [
        ("metadata.yaml", None, "incomplete bag"),
        ("*.mcap", 0.5, "damaged bag"),
        ("*.mcap", None, "damaged bag"),
        ("metadata.yaml", 0.5, "damaged bag"),
    ],
)
def test_a_bag_of_ours_that_is_damaged_is_one_line_that_names_it(
    bag: Path, tmp_path: Path, file: str, keep: float | None, message: str
) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(bag), str(copy)], check=True)
    (damaged,) = copy.glob(file)
    if keep is None:
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[: int(keep * damaged.stat().st_size)])
    with pytest.raises(UserError, match=f"copy: {message}"), open_bag(copy, whole=True) as reader:
        list(reader.messages())
